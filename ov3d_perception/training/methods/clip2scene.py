"""The Lightning module of CLIP2Scene and of what its tables compare it with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from ov3d_perception.language.sample import sample_features
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.methods import clip2scene, kl, ppkt, slidr
from ov3d_perception.methods.maskclip import pixel_words, prompt_denoising
from ov3d_perception.networks.registry import Network
from ov3d_perception.recipes.specs import Recipe
from ov3d_perception.sparse import SparseTensor
from ov3d_perception.training.balance import Balance
from ov3d_perception.training.data.clouds import CloudBatch, Pairs
from ov3d_perception.training.student import Student


@dataclass(frozen=True)
class FramePairs:
    """One frame's pairs: x; z, the narrow features that the two heads read; the word of each pixel, and the rest."""

    pixels: Float[Tensor, "m d"]
    narrow: Float[Tensor, "m c"]
    word: Int64[Tensor, " m"]
    pairs: Pairs
    rows: Int64[Tensor, " m"]

    def column(self, name: str) -> Int64[Tensor, " m"]:
        """This frame's part of a column of the batch."""
        column: Tensor = getattr(self.pairs, name)
        return column[self.rows]


@dataclass
class Clock:
    """Seconds spent so far, by what; on a GPU each part is waited for."""

    spent: dict[str, float] = field(default_factory=dict)

    def add(self, what: str, since: float, device: torch.device) -> float:
        """Book the time from ``since`` to now; returns now."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.perf_counter()
        self.spent[what] = self.spent.get(what, 0.0) + now - since
        return now


class Clip2SceneModule(Student):
    """Trains ``network`` by the loss that ``recipe.method`` names; the loss of a batch is the mean of its frames'.

    The head of equation (1) is the network's own, which is kept; that of equation (2) is ``spatial_head``.

    Args:
        network: the student.
        recipe: method, optimiser, seed.
        steps: optimiser steps of the whole run.
        vocabulary: the words that teach.
        teacher: encodes the images of batches that bring no maps.
    """

    text: Tensor
    word_class: Tensor

    def __init__(
        self, network: Network, recipe: Recipe, steps: int, vocabulary: Vocabulary, teacher: ImageTeacher | None = None
    ) -> None:
        super().__init__(network, recipe.optimiser, steps)
        self.recipe, self.method, self.teacher, self.clock = recipe, recipe.method, teacher, Clock()
        self.self_training = clip2scene.SelfTraining(self.method.switch_after, self.method.switch)
        self.logit_scale = vocabulary.logit_scale
        self.register_buffer("text", torch.from_numpy(vocabulary.embeddings), persistent=False)
        self.register_buffer("word_class", torch.from_numpy(vocabulary.prompt_class).long(), persistent=False)
        if recipe.optimiser.balance > 0:
            self.balance = Balance(vocabulary.prompt_class, recipe.optimiser.balance)
        self.spatial_head: nn.Linear | None = None
        if self.method.name == "clip2scene" and self.method.spatial > 0:
            self.spatial_head = nn.Linear(network.feature_dim, len(self.text[0]), bias=False)

    def training_step(self, batch: CloudBatch, _: int) -> Float[Tensor, ""]:
        """The loss of one batch."""
        start = time.perf_counter()
        pairs = batch.pairs
        assert pairs is not None
        pixels, word = self._see(pairs)
        self.clock.add("teacher", start, self.device)
        narrow = self.network(SparseTensor(batch.feats, batch.coords)).feats[pairs.voxel].float()
        parts: dict[str, list[Tensor]] = {}
        for frame in range(batch.frames):
            rows = torch.nonzero(pairs.frame == frame)[:, 0]
            taught = FramePairs(pixels[rows], narrow[rows], word[rows], pairs, rows)
            for name, part in self._losses(taught).items():
                parts.setdefault(name, []).append(part)
        means = {name: torch.stack(part).mean() for name, part in parts.items()}
        return self.log_loss(torch.stack(list(means.values())).sum(), **means)

    def _losses(self, taught: FramePairs) -> dict[str, Float[Tensor, ""]]:
        """The weighted losses of one frame, by name."""
        method, features = self.method, self.network.head(taught.narrow).float()
        points, pixels = F.normalize(features, dim=1), taught.pixels
        if method.name == "kl":
            weight = self.balance.weights(taught.word) if self.balance else None
            return kl.losses(kl.KlStep(points, pixels, self.text, self.logit_scale, weight))
        if method.name == "ppkt":
            return ppkt.losses(ppkt.PpktStep(points, pixels, method.samples, method.temperature))
        if method.name == "slidr":
            return slidr.losses(slidr.SlidrStep(points, pixels, taught.column("segment"), method.temperature))
        step = clip2scene.Clip2SceneStep(
            pixels=pixels,
            word=taught.word,
            semantic=features,
            spatial=None if self.spatial_head is None else self.spatial_head(taught.narrow).float(),
            sweep=taught.column("sweep"),
            grid=taught.column("grid"),
            text=self.text,
            word_class=self.word_class,
            self_taught=self.self_training.applies(self.current_epoch, self.recipe.seed, self.global_step),
        )
        options = clip2scene.Clip2SceneOptions(
            semantic=method.semantic,
            spatial=method.spatial,
            tau=method.tau,
            attention=method.attention,
            form=method.form,
            logit_scale=self.logit_scale,
            class_weight=self.balance.weights if self.balance else None,
        )
        return clip2scene.losses(step, options)

    @torch.no_grad()
    def _see(self, pairs: Pairs) -> tuple[Float[Tensor, "m d"], Int64[Tensor, " m"]]:
        """Feature and word of each pair's pixel."""
        maps = [one.float() for one in pairs.maps or self._encoded(pairs.images)]
        pixels = self.text.new_zeros(len(pairs.uv), self.text.shape[1])
        allowed: Bool[Tensor, "m w"] | None = None
        denoise = self.recipe.teacher.denoise
        if denoise > 0:
            allowed = torch.ones(len(pixels), len(self.text), dtype=torch.bool, device=pixels.device)
        for number, (dense, size) in enumerate(zip(maps, pairs.sizes, strict=True)):
            mine = torch.nonzero(pairs.view == number)[:, 0]
            pixels[mine] = sample_features(dense.to(pixels.device), pairs.uv[mine], size)
            if allowed is not None:
                allowed[mine] = prompt_denoising(dense.to(pixels.device), self.text, self.logit_scale, denoise)
        return pixels, pixel_words(pixels, self.text, allowed)

    def _encoded(self, images: Sequence[Tensor]) -> list[Tensor]:
        """The images' features, those of one size encoded together."""
        assert self.teacher is not None
        maps: dict[int, Tensor] = {}
        for shape in sorted({image.shape for image in images}):
            numbers = [number for number, image in enumerate(images) if image.shape == shape]
            maps.update(zip(numbers, self.teacher.encode_now([images[n] for n in numbers]), strict=True))
        return [maps[number] for number in range(len(images))]
