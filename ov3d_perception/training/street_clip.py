"""Training of the small street CLIP on simulated images and captions.

Two contrastive losses over one pool of captions (Radford et al. 2021), their targets spread over all captions that fit:

* boxes: the mean of the MaskCLIP features in a box of patches, against captions of what the box shows (as RegionCLIP,
  Zhong et al. 2022, but with MaskCLIP's value path in place of a region head); it makes the dense features good.
* windows: the class token of the whole window, against captions of what the window shows: plain CLIP.

The captions come with sentences about things that are in no image. No image ever answers to them, and so words outside
the street's vocabulary learn to lie far from all that can be seen.
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
import torch.nn.functional as F
import yaml
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from ov3d_perception.errors import DatasetError
from ov3d_perception.language import maskclip
from ov3d_perception.language.encoder import DenseSettings
from ov3d_perception.training.street_clip_captions import Caption, CaptionWriter, agreement, street_words
from ov3d_perception.training.street_clip_crops import Cropper, Crops, CropSettings, LabelledImage
from ov3d_perception.training.street_clip_model import (
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
    """All that decides the weights. batch: windows a step; captions, absent: box captions and absent sentences a step.

    window_every: the window loss is computed every so many steps. checkpoint_every: steps between resumable states.
    """

    name: str = "street_clip"
    seed: int = 1
    steps: int = 3000
    batch: int = 16
    captions: int = 56
    absent: int = 24
    window_every: int = 4
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warmup: int = 150
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
        self._images = images
        self.step = 0
        self._begin(recipe.seed)
        self._resume()

    def run(self, stop_at: int | None = None) -> None:
        """Train to the recipe's last step (or ``stop_at``); resumable state is written on the way."""
        last = min(stop_at or self.recipe.steps, self.recipe.steps)
        bar = tqdm(total=self.recipe.steps, initial=self.step, desc=self.recipe.name, unit="step", mininterval=5)
        while self.step < last:
            losses = self.train_step()
            bar.set_postfix({k: f"{v:.2f}" for k, v in losses.items()}, refresh=False)
            bar.update()
            if self.step % self.recipe.checkpoint_every == 0:
                self.save_state()
        bar.close()

    def train_step(self) -> dict[str, float]:
        """One step of AdamW; returns the losses."""
        rate = _schedule(self.step, self.recipe)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self.model.train()
        losses = self._losses(self._cropper.batch(self.recipe.batch))
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
        partial = self.folder / "training_state.partial"
        torch.save({**state, "recipe": asdict(self.recipe)}, partial)
        partial.replace(self._state_file)

    @property
    def _state_file(self) -> Path:
        return self.folder / "training_state.pt"

    def _begin(self, seed: int) -> None:
        crops, captions = (np.random.default_rng([seed, self.step, k]) for k in range(2))
        self._cropper = Cropper(self._images, len(street_words().names), self.recipe.crops, crops)
        self._writer = CaptionWriter(captions)
        self._rng = captions

    def _resume(self) -> None:
        if not self._state_file.is_file():
            return
        state = torch.load(self._state_file, weights_only=True)
        if state["recipe"] != asdict(self.recipe):
            raise DatasetError(
                f"{self._state_file} was written by another recipe", "Choose another output folder, or delete the file"
            )
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._begin(self.recipe.seed)

    def _losses(self, crops: Crops) -> dict[str, Tensor]:
        pixels = normalise(torch.from_numpy(crops.images).permute(0, 3, 1, 2))
        saliences = self._writer.salience(crops.box_shares.reshape(-1, crops.box_shares.shape[-1]))
        window = self._writer.salience(crops.window_shares)
        with_window = self.step % self.recipe.window_every == 0
        pool = self._pool(np.concatenate([saliences, window]) if with_window else saliences)
        texts = [caption.text for caption in pool] + self._writer.absent(self.recipe.absent)
        mentions = np.stack([caption.mentions for caption in pool])
        dtype = getattr(torch, self.recipe.precision)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is not torch.float32):
            text = F.normalize(self.model.encode_text(self._tokenizer(texts)).float(), dim=-1)
            tokens = maskclip.tokens_before_last_block(self.model.visual, pixels)
            patches = maskclip.value_path(self.model.visual, tokens[:, 1:])
            whole = _class_token(self.model, tokens) if with_window else None
        boxes = torch.from_numpy(crops.boxes) @ F.normalize(patches.float(), dim=-1)
        scale = self.model.logit_scale.exp()
        losses = {
            "box": contrast(F.normalize(boxes.flatten(0, 1), dim=-1), text, agreement(saliences, mentions), scale)
        }
        if whole is not None:
            fit = agreement(window, mentions)
            losses["window"] = 0.5 * contrast(F.normalize(whole.float(), dim=-1), text, fit, scale)
        return losses

    def _pool(self, saliences: np.ndarray) -> list[Caption]:
        """Captions of some of the boxes and windows; the others find theirs among them."""
        worth = np.flatnonzero(saliences.any(1))
        chosen = self._rng.choice(worth, min(self.recipe.captions, len(worth)), replace=False)
        return [self._writer.write(saliences[row]) for row in chosen]


def _class_token(model: open_clip.CLIP, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b e"]:
    """The tower's own output from the tokens that enter its last block."""
    pooled, _ = model.visual._pool(model.visual.transformer.resblocks[-1](tokens))
    return pooled @ model.visual.proj


def contrast(
    image: Float[Tensor, "n d"], text: Float[Tensor, "t d"], fit: np.ndarray, scale: Tensor
) -> Float[Tensor, ""]:
    """Symmetric cross entropy with targets in proportion to ``fit`` (n, m), m <= t; texts from m on fit nothing.

    Rows and columns that nothing fits carry no loss of their own, but count in the others' denominators.
    """
    logits = scale * image @ text.T
    target = torch.from_numpy(fit).to(logits)
    padded = F.pad(target, (0, len(text) - target.shape[1]))
    to_text = _soft_cross_entropy(logits, padded)
    to_image = _soft_cross_entropy(logits[:, : target.shape[1]].T, target.T)
    return (to_text + to_image) / 2


def _soft_cross_entropy(logits: Float[Tensor, "a b"], target: Float[Tensor, "a b"]) -> Float[Tensor, ""]:
    """Cross entropy less the target's own entropy, so that a perfect match costs 0."""
    total = target.sum(1, keepdim=True)
    share = target / total.clamp(min=1e-6)
    entropy = -(share * share.clamp(min=1e-9).log()).sum(1)
    loss = -(share * logits.log_softmax(1)).sum(1) - entropy
    valid = total[:, 0] > 0
    return loss[valid].mean() if valid.any() else logits.sum() * 0


def _optimiser(model: open_clip.CLIP, recipe: StreetClipRecipe) -> torch.optim.AdamW:
    decay = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    rest = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups = [{"params": decay, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))


def _schedule(step: int, recipe: StreetClipRecipe) -> float:
    """Linear warm-up, then a cosine down to 1% of the peak."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    progress = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1, progress))))
