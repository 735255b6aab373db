"""Training by pairs of pixels and points of sweeps drawn anew: what CLIP2Scene and its tables' other methods share."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ov3d_perception.language.sample import sample_features
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.lifting.frames import Prepared, prepare_maps
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.lifting.sources import open_vocabulary
from ov3d_perception.methods.maskclip import pixel_words, prompt_denoising
from ov3d_perception.networks.registry import Network
from ov3d_perception.recipes.method_specs import SweepsSpec, WordsSpec
from ov3d_perception.recipes.specs import Recipe
from ov3d_perception.sparse import SparseTensor
from ov3d_perception.training.balance import Balance
from ov3d_perception.training.data.clouds import CloudBatch, CloudDataset, Columns, Pairs
from ov3d_perception.training.data.readers import Segments, SweepReader
from ov3d_perception.training.experiment import Experiment, Run
from ov3d_perception.training.student import Student


@dataclass(frozen=True)
class FramePairs:
    """One frame's pairs: x; z, the point features that the heads read; the word of each pixel, and the rest."""

    pixels: Float[Tensor, "m d"]
    feats: Float[Tensor, "m c"]
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


class PixelStudent(Student, ABC):
    """Trains ``network`` by the loss of each frame's pairs; the loss of a batch is the mean of its frames'.

    Args:
        network: the student.
        recipe: method, optimiser, seed.
        steps: optimiser steps of the whole phase.
        vocabulary: the words that teach.
        teacher: encodes the images of batches that bring no maps.
    """

    text: Tensor
    word_class: Tensor

    def __init__(
        self, network: Network, recipe: Recipe, steps: int, vocabulary: Vocabulary, teacher: ImageTeacher | None = None
    ) -> None:
        super().__init__(network, recipe.optimiser, steps)
        self.recipe, self.teacher, self.clock = recipe, teacher, Clock()
        self.logit_scale = vocabulary.logit_scale
        self.register_buffer("text", torch.from_numpy(vocabulary.embeddings), persistent=False)
        self.register_buffer("word_class", torch.from_numpy(vocabulary.prompt_class).long(), persistent=False)
        if isinstance(recipe.method, WordsSpec) and recipe.method.balance > 0:
            self.balance = Balance(vocabulary.prompt_class, recipe.method.balance)

    @abstractmethod
    def frame_losses(self, frame: FramePairs) -> dict[str, Float[Tensor, ""]]:
        """The weighted losses of one frame, by name."""

    def points(self, frame: FramePairs) -> Float[Tensor, "m d"]:
        """The head's output for each pair's point, of unit norm."""
        return F.normalize(self.network.head(frame.feats).float(), dim=1)

    def training_step(self, batch: CloudBatch, _: int) -> Float[Tensor, ""]:
        """The loss of one batch."""
        start = time.perf_counter()
        pairs = batch.pairs
        assert pairs is not None
        pixels, word = self._see(pairs)
        self.clock.add("teacher", start, self.device)
        feats = self.network(SparseTensor(batch.feats, batch.coords)).feats[pairs.voxel].float()
        parts: dict[str, list[Tensor]] = {}
        for number in range(batch.frames):
            rows = torch.nonzero(pairs.frame == number)[:, 0]
            frame = FramePairs(pixels[rows], feats[rows], word[rows], pairs, rows)
            for name, part in self.frame_losses(frame).items():
                parts.setdefault(name, []).append(part)
        means = {name: torch.stack(part).mean() for name, part in parts.items()}
        return self.log_loss(torch.stack(list(means.values())).sum(), **means)

    @torch.no_grad()
    def _see(self, pairs: Pairs) -> tuple[Float[Tensor, "m d"], Int64[Tensor, " m"]]:
        """Feature and word of each pair's pixel."""
        maps = [one.float() for one in pairs.maps or self._encoded(pairs.images)]
        pixels = self.text.new_zeros(len(pairs.uv), self.text.shape[1])
        allowed: Bool[Tensor, "m w"] | None = None
        denoise = self.recipe.method.denoise if isinstance(self.recipe.method, WordsSpec) else 0.0
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


def experiment(run: Run, module: Callable[..., PixelStudent], segments: Segments | None = None) -> Experiment:
    """The experiment of a method of pairs; ``module`` is its :class:`PixelStudent`."""
    recipe, method, words = run.recipe, run.recipe.method, run.vocabulary
    assert isinstance(method, SweepsSpec) and words is not None and recipe.vocabulary is not None
    if isinstance(method, WordsSpec) and method.prompts:
        words = open_vocabulary(replace(recipe.vocabulary, labelset=method.prompts), run.teacher.identity)
    prepared: list[Prepared] | None = None
    counts: dict[str, Any] = {}
    if not recipe.teacher.online:
        prepared, counts = run.prepared(lambda: prepare_maps(run.source, run.teacher, recipe.pairs))
    reader = SweepReader(run.source, prepared, run.teacher.folder, recipe, segments)
    dataset = CloudDataset(reader, recipe, Columns(grid=method.grid, grid_points=method.grid_points))
    return Experiment(dataset, lambda steps: module(run.network, recipe, steps, words, run.teacher), counts)
