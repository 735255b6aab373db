"""Frames as clouds, by what a method learns from: stored pairs, pairs of sweeps drawn anew, labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8

from ov3d_perception.errors import DatasetError
from ov3d_perception.geometry.sweeps import merge
from ov3d_perception.lifting.compact import Compact
from ov3d_perception.lifting.frames import BASIS, Prepared, sample_path
from ov3d_perception.lifting.pairs import Sample, image_size, load_sample, pair
from ov3d_perception.lifting.sources import skipped_in
from ov3d_perception.lifting.sweeps import draw_sweeps
from ov3d_perception.recipes.method_specs import SweepsSpec
from ov3d_perception.recipes.specs import Recipe
from ov3d_perception.training.data.clouds import Cloud, Said
from ov3d_perception.training.data.crops import draw_crop
from ov3d_perception.types import UNLABELLED, Frame, PixelPointPairs, View

Segments = Callable[
    [Callable[[], UInt8[np.ndarray, "h w 3"]], tuple[int, int], Float32[np.ndarray, "m 2"], Path | None],
    tuple[Int64[np.ndarray, " m"], int],
]
"""The segment of each pixel of an image, and how many segments there may be (see :func:`.superpixels.superpixels`)."""


class SampleReader:
    """Samples on disk, consolidated once.

    Args:
        folder: of the samples.
        prepared: the frames that have one.
        superpoints: gives the superpoint of each point of the sample in a file; none without.
    """

    def __init__(
        self,
        folder: Path,
        prepared: Sequence[Prepared],
        superpoints: Callable[[Path, Sample], Int64[np.ndarray, " n"]] | None = None,
    ) -> None:
        self.folder, self.prepared, self.superpoints = folder, prepared, superpoints
        self.basis = torch.from_numpy(np.load(folder / BASIS))
        own = torch.equal(self.basis, torch.eye(*self.basis.shape))
        self._basis = None if own else self.basis

    def __len__(self) -> int:
        return len(self.prepared)

    def read(self, index: int, rng: np.random.Generator) -> Cloud:
        """The sample of the ``index``-th prepared frame."""
        path = sample_path(self.folder, self.prepared[index].frame)
        sample = load_sample(path)
        alone = np.zeros(len(sample.xyz), np.int64)
        return Cloud(
            xyz=sample.xyz,
            intensity=sample.intensity,
            part=alone,
            sweep=alone,
            supervised=sample.point,
            superpoint=None if self.superpoints is None else self.superpoints(path, sample),
            said=Said(
                sample.row,
                Compact(sample.code, sample.scale),
                sample.confidence.astype(np.float32),
                self._basis,
            ),
        )

    def missing(self) -> Counter[str]:
        """Nothing: that was counted when the samples were made."""
        return Counter()


class SweepReader:
    """A frame of K sweeps drawn among those near in time, associated when it is read (CLIP2Scene's pairs).

    Args:
        source: the frames.
        prepared: those of them to use, with the teacher's maps of their images; None uses all, and the training step
            encodes the images (``teacher.online``).
        maps: the teacher's folder.
        recipe: whose method says how many sweeps; its association and augmentations of images.
        segments: gives the superpixel of each pixel of an image; none without.
    """

    def __init__(
        self,
        source: Sequence[Frame],
        prepared: Sequence[Prepared] | None,
        maps: Path,
        recipe: Recipe,
        segments: Segments | None = None,
    ) -> None:
        assert isinstance(recipe.method, SweepsSpec)
        self.source, self.prepared, self.maps = source, prepared, maps
        self.recipe, self.method, self.segments = recipe, recipe.method, segments

    def __len__(self) -> int:
        return len(self.source if self.prepared is None else self.prepared)

    def read(self, index: int, rng: np.random.Generator) -> Cloud:
        """The ``index``-th frame. Raises DatasetError where no pixel sees a point, and as the source does."""
        recipe, method = self.recipe, self.method
        frame = self.source[index if self.prepared is None else self.prepared[index].frame]
        stored = None if self.prepared is None else [self.maps / name for name in self.prepared[index].maps]
        sweeps = draw_sweeps(frame.sweeps, method.sweeps, method.seconds, rng)
        drawn = replace(frame, sweeps=sweeps)
        pairs = pair(drawn, replace(recipe.pairs, sweeps=len(sweeps)))
        pairs, images, segment = self._seen(frame.views, pairs, stored, rng)
        if len(pairs) == 0:
            raise DatasetError(f"No pixel sees a point of {frame.name}", "Check the calibration and the poses")
        merged = merge(sweeps)
        sweep = np.repeat(np.arange(len(sweeps)), [len(s.scan) for s in sweeps])
        rows = np.sort(rng.permutation(len(pairs))[: recipe.pairs.targets])
        size = None if stored else recipe.teacher.size
        return Cloud(
            xyz=merged.xyz,
            intensity=merged.intensity,
            part=np.zeros_like(sweep) if method.merged else sweep,
            sweep=sweep,
            supervised=pairs.point,
            point=pairs.point[rows],
            view=pairs.camera[rows].astype(np.int64),
            uv=pairs.uv[rows],
            segment=segment[rows],
            sizes=tuple(size or image_size(view) for view in frame.views),
            maps=tuple(stored or ()),
            images=images,
        )

    def _seen(
        self, views: Sequence[View], pairs: PixelPointPairs, stored: Sequence[Path] | None, rng: np.random.Generator
    ) -> tuple[PixelPointPairs, tuple[torch.Tensor, ...], np.ndarray]:
        """The pairs whose pixels the augmented images still show, these images (none where their maps are ``stored``),
        and the superpixel of each pair.

        With stored maps a pair's pixel stays where it is in the whole image; else it is moved into the augmented one.
        """
        recipe, uv, first = self.recipe, pairs.uv.copy(), 0
        keep, segment = np.ones(len(pairs), bool), np.zeros(len(pairs), np.int64)
        images: list[torch.Tensor] = []
        for number, view in enumerate(views):
            mine, size = pairs.camera == number, image_size(view)
            crop = draw_crop(size, recipe.augment, rng)
            shown = partial(_resized, view, size)
            if stored is None:
                target = recipe.teacher.size or size
                uv[mine], keep[mine] = crop.pixels(uv[mine], target)
                shown = partial(np.asarray, crop.image(shown(), target))
                images.append(torch.from_numpy(np.ascontiguousarray(shown().transpose(2, 0, 1))))
                size = target
            else:
                keep[mine] = crop.pixels(uv[mine], size)[1]
            if self.segments is not None:
                found, count = self.segments(shown, size, uv[mine], None if stored is None else stored[number])
                segment[mine], first = found + first, first + count
        columns = {name: getattr(pairs, name)[keep] for name in ("point", "sweep", "camera", "depth")}
        return PixelPointPairs(uv=uv[keep], **columns), tuple(images), segment[keep]

    def missing(self) -> Counter[str]:
        """What the source has skipped so far."""
        return skipped_in(self.source)


class LabelReader:
    """Frames with their labels, those of the key sweep.

    Args:
        source: the frames.
        sweeps: how many are merged into one cloud.
    """

    def __init__(self, source: Sequence[Frame], sweeps: int) -> None:
        self.source, self.sweeps = source, sweeps

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int, rng: np.random.Generator) -> Cloud:
        """The ``index``-th frame. Raises DatasetError where no point has a label, and as the source does."""
        frame = self.source[index]
        merged = merge(frame.sweeps[: self.sweeps])
        label = np.full(len(merged.xyz), UNLABELLED, np.int64)
        if frame.labels is not None:
            label[: len(frame.labels)] = frame.labels
        known = np.flatnonzero(label != UNLABELLED)
        if len(known) == 0:
            raise DatasetError(f"{frame.name} has no label", "Take a labelled split")
        alone = np.zeros(len(merged.xyz), np.int64)
        return Cloud(xyz=merged.xyz, intensity=merged.intensity, part=alone, sweep=alone, supervised=known, label=label)

    def missing(self) -> Counter[str]:
        """What the source has skipped so far."""
        return skipped_in(self.source)


def _resized(view: View, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """The view's image in its calibration's size."""
    image = view.image
    return image if image.shape[:2] == size else np.asarray(cv2.resize(image, size[::-1]))
