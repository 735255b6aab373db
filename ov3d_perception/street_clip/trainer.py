"""Training of the small street CLIP on simulated images and captions: first the words, then the pictures.

1. Text. Captions that speak of the same things lie close, others apart, and sentences about things that are in no image
   lie apart from all of them: a contrastive loss among captions (targets spread over all that fit). It needs no image.
2. Images, with the text tower locked (LiT, Zhai et al. 2022), against a pool of captions embedded once, contrastive
   again, of two things at a time. Boxes: the mean of the MaskCLIP features in a box of patches and captions of what the
   box shows (as RegionCLIP, Zhong et al. 2022, with MaskCLIP's value path in place of a region head); it makes the
   dense features good. Windows: the class token and captions of the whole window, which is plain CLIP.

An untrained text tower gives all sentences nearly one embedding, from which an image tower learns nothing for long;
hence the order. The absent sentences stay in the pool and no image ever answers to them, so that words outside the
street's vocabulary lie far from all that can be seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import yaml
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from ov3d_perception.errors import DatasetError
from ov3d_perception.files import replacing
from ov3d_perception.language.dense.maskclip import value_path
from ov3d_perception.language.dense.tower import tokens_before_last_block
from ov3d_perception.language.encoder import DenseSettings
from ov3d_perception.llvm_code import halves_in_vectors
from ov3d_perception.street_clip.captions import Caption, CaptionWriter, agreement, street_words
from ov3d_perception.street_clip.crops import Cropper, Crops, CropSettings, LabelledImage
from ov3d_perception.street_clip.losses import CaptionPool, caption_loss, clip_loss
from ov3d_perception.street_clip.model import (
    ModelSettings,
    create_folder,
    create_untrained,
    normalise,
    save_weights,
)


@dataclass(frozen=True)
class WorldSettings:
    """Which simulated drives the images come from; ``every`` leaves out frames, the others are the data set's options.

    The seeds 0-999 are for training, 1000-1099 for validation; the demo's worlds are 2000 and above.
    """

    seeds: str = "0-23"
    validation_seeds: str = "1000-1004"
    frames: int = 15
    stride: int = 5
    every: int = 2
    image_size: tuple[int, int] = (480, 270)


@dataclass(frozen=True)
class StreetClipRecipe:
    """All that decides the weights.

    text_steps, steps: steps of the first part, and of both. batch: windows a step. text_batch: captions a step of the
    first part. pool: captions embedded once for the second; captions: how many of them a step draws. absent: sentences
    about nothing in the street, as a fraction of each of these three. window_every: the window loss is computed every
    so many steps. warmup: steps, of each part. checkpoint_every: steps between resumable states.
    """

    name: str = "street_clip"
    seed: int = 1
    text_steps: int = 700
    steps: int = 5700
    batch: int = 16
    text_batch: int = 64
    pool: int = 3000
    captions: int = 256
    absent: float = 0.5
    window_every: int = 4
    learning_rate: float = 7e-4
    weight_decay: float = 0.05
    warmup: int = 100
    precision: str = "float32"
    checkpoint_every: int = 200
    worlds: WorldSettings = field(default_factory=WorldSettings)
    crops: CropSettings = field(default_factory=CropSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    dense: DenseSettings = field(default_factory=DenseSettings)


def load_recipe(path: Path) -> StreetClipRecipe:
    """Read ``config/train/street_clip.yaml`` or one like it. Raises DatasetError naming a field that does not fit."""
    try:
        data: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        parts = {"worlds": WorldSettings, "crops": CropSettings, "model": ModelSettings, "dense": DenseSettings}
        for key, kind in parts.items():
            section = {k: tuple(v) if isinstance(v, list) else v for k, v in data.pop(key, {}).items()}
            data[key] = kind(**section)
        return StreetClipRecipe(**data)
    except (OSError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise DatasetError(
            f"The recipe {path} cannot be used ({error})", "Compare it with config/train/*.yaml"
        ) from error


class StreetClipTrainer:
    """Model, optimiser and data of one run; everything in ``folder``'s ``training_state.pt`` resumes it."""

    def __init__(self, images: Sequence[LabelledImage], recipe: StreetClipRecipe, folder: Path) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.folder = recipe, folder
        create_folder(folder, recipe.model, recipe.dense)
        self.model, self._tokenizer = create_untrained(folder)
        self._optimiser = _optimiser(self.model, recipe)
        self._cropper = Cropper(images, len(street_words().names), recipe.crops)
        self._writer = CaptionWriter()
        self._pool: CaptionPool | None = None
        self.step = 0
        self._resume()

    def run(self, stop_at: int | None = None) -> None:
        """Train to the recipe's last step (or ``stop_at``); resumable state is written on the way and at the end."""
        last = min(stop_at or self.recipe.steps, self.recipe.steps)
        bar = tqdm(total=self.recipe.steps, initial=self.step, desc=self.recipe.name, unit="step", mininterval=5)
        while self.step < last:
            losses = self.train_step()
            bar.set_postfix({k: f"{v:.2f}" for k, v in losses.items()}, refresh=False)
            bar.update()
            if self.step % self.recipe.checkpoint_every == 0:
                self.save_state()
        bar.close()
        self.save_state()

    def train_step(self) -> dict[str, float]:
        """One step of AdamW; returns the losses. A tower whose part it is not gets no gradient and stays as it is."""
        rate = _schedule(self.step, self.recipe)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self.model.train()
        rng = self._random(self.step)
        losses = self._text_losses(rng) if self.step < self.recipe.text_steps else self._image_losses(rng)
        self._optimiser.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimiser.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(100))
        self.step += 1
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def save_state(self) -> None:
        """Weights for use and the state to go on from."""
        save_weights(self.model, self.folder)
        state = {"step": self.step, "model": self.model.state_dict(), "optimiser": self._optimiser.state_dict()}
        with replacing(self.state_file) as file:
            torch.save({**state, "recipe": asdict(self.recipe)}, file)

    @property
    def state_file(self) -> Path:
        """Where the state to go on from is kept."""
        return self.folder / "training_state.pt"

    def _resume(self) -> None:
        if not self.state_file.is_file():
            return
        state = torch.load(self.state_file, weights_only=True)
        if state["recipe"] != asdict(self.recipe):
            raise DatasetError(
                f"{self.state_file} was written by another recipe", "Choose another output folder, or delete the file"
            )
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])

    def _random(self, step: int) -> np.random.Generator:
        """The random stream of one step: a resumed run goes on exactly as the first would have."""
        return np.random.default_rng([self.recipe.seed, step])

    def _text_losses(self, rng: np.random.Generator) -> dict[str, Tensor]:
        captions = self._write(self.recipe.text_batch, rng)
        texts = [caption.text for caption in captions]
        texts += self._writer.absent(int(len(texts) * self.recipe.absent), rng)
        mentions = np.stack([caption.mentions for caption in captions])
        with self._autocast():
            text = self.model.encode_text(self._tokenizer(texts)).float()
        fit = agreement(mentions, mentions)
        return {"captions": caption_loss(functional.normalize(text, dim=-1), fit, self.model.logit_scale.exp())}

    def _image_losses(self, rng: np.random.Generator) -> dict[str, Tensor]:
        if self._pool is None:
            self._pool = self._embed_pool()
        crops, scale = self._cropper.batch(self.recipe.batch, rng), self.model.logit_scale.exp()
        absent = int(self.recipe.captions * self.recipe.absent)
        text, mentions = self._pool.draw(rng, self.recipe.captions, absent)
        with self._autocast():
            tokens, _ = tokens_before_last_block(self.model.visual, _pixels(crops))
            patches = functional.normalize(value_path(self.model.visual, tokens[:, 1:]).float(), dim=-1)
        boxes = functional.normalize((torch.from_numpy(crops.boxes) @ patches).flatten(0, 1), dim=-1)
        salience = self._writer.salience(crops.box_shares.reshape(-1, crops.box_shares.shape[-1]))
        losses = {"boxes": clip_loss(boxes, text, agreement(salience, mentions), scale)}
        if self.step % self.recipe.window_every == 0:
            with self._autocast():
                whole = functional.normalize(_class_token(self.model, tokens).float(), dim=-1)
            fit = agreement(self._writer.salience(crops.window_shares), mentions)
            losses["windows"] = 0.5 * clip_loss(whole, text, fit, scale)
        return losses

    def _write(self, count: int, rng: np.random.Generator) -> list[Caption]:
        """Captions of random crops, none of which need be looked at."""
        captions: list[Caption] = []
        while len(captions) < count:
            salience = self._writer.salience(self._cropper.shares(self.recipe.batch, rng))
            worth = rng.permutation(np.flatnonzero(salience.any(1)))[: self.recipe.text_batch]
            captions += [self._writer.write(row, rng) for row in salience[worth]]
        return captions[:count]

    @torch.no_grad()
    def _embed_pool(self) -> CaptionPool:
        rng = self._random(self.recipe.steps)
        captions = self._write(self.recipe.pool, rng)
        texts = [caption.text for caption in captions]
        texts += self._writer.absent(int(self.recipe.pool * self.recipe.absent), rng)
        parts = [self.model.encode_text(self._tokenizer(texts[i : i + 256])) for i in range(0, len(texts), 256)]
        return CaptionPool(functional.normalize(torch.cat(parts), dim=-1), np.stack([c.mentions for c in captions]))

    def _autocast(self) -> torch.autocast:
        halves = self.recipe.precision == "bfloat16" and halves_in_vectors()
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=halves)


def _pixels(crops: Crops) -> Float[Tensor, "b 3 s s"]:
    return normalise(torch.from_numpy(crops.images).permute(0, 3, 1, 2))


def _class_token(model: open_clip.CLIP, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b e"]:
    """The tower's own output from the tokens that enter its last block."""
    pooled, _ = model.visual._pool(model.visual.transformer.resblocks[-1](tokens))
    return pooled @ model.visual.proj


def _optimiser(model: open_clip.CLIP, recipe: StreetClipRecipe) -> torch.optim.AdamW:
    decay = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    rest = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups = [{"params": decay, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))


def _schedule(step: int, recipe: StreetClipRecipe) -> float:
    """For each part a linear warm-up, then a cosine down to 1% of the peak."""
    first = 0 if step < recipe.text_steps else recipe.text_steps
    last = recipe.text_steps if step < recipe.text_steps else recipe.steps
    if step - first < recipe.warmup:
        return recipe.learning_rate * (step - first + 1) / recipe.warmup
    progress = (step - first - recipe.warmup) / max(1, last - first - recipe.warmup)
    return recipe.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1, progress))))
