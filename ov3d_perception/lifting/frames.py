"""The first half of a run: read every frame once, associate, encode its images, and leave samples on disk."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ov3d_perception.errors import DatasetError, Ov3dError
from ov3d_perception.lifting.image_teacher import Teacher
from ov3d_perception.lifting.pairs import make_sample, pair, save_sample
from ov3d_perception.recipes.specs import PairSpec
from ov3d_perception.types import Frame, View

log = logging.getLogger(__name__)


@dataclass
class Counts:
    """What became of the frames of a source. ``errors``: message of each frame that could not be read."""

    used: int = 0
    unseen: int = 0
    corrupt: int = 0
    pairs: int = 0
    errors: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.used} frames used with {self.pairs} pairs, {self.unseen} skipped with no pixel in view, "
            f"{self.corrupt} skipped as unreadable"
        )

    def to_dict(self) -> dict[str, object]:
        """Plain data."""
        return asdict(self)


def read_frames(source: Sequence[Frame], counts: Counts) -> Iterator[tuple[int, Frame]]:
    """The frames that can be read; the others are counted and reported, never fatal."""
    for index in tqdm(range(len(source)), desc="frames", unit="frame"):
        try:
            frame = source[index]
        except Ov3dError as error:
            counts.corrupt += 1
            counts.errors.append(str(error))
            log.warning("Frame %d skipped: %s", index, error)
            continue
        yield index, frame


def neighbours(source: Sequence[Frame], index: int, frame: Frame, window: int) -> tuple[View, ...]:
    """The frame's own views, then those of up to ``window`` frames on each side in the same sequence.

    The sequence is what stands before the last "/" of a frame's name. A neighbour that cannot be read is left out.
    """
    views = list(frame.views)
    for other in range(max(index - window, 0), min(index + window + 1, len(source))):
        if other == index:
            continue
        try:
            beside = source[other]
        except Ov3dError:
            continue
        if beside.name.rpartition("/")[0] == frame.name.rpartition("/")[0]:
            views += beside.views
    return tuple(views)


def prepare(source: Sequence[Frame], teacher: Teacher, spec: PairSpec, folder: Path) -> tuple[list[Path], Counts]:
    """Write one sample a frame under ``folder``; returns their paths and the counts.

    Raises:
        DatasetError: the teacher's features exceed their budget, or no frame has a pixel in view.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    counts = Counts()
    for index, frame in read_frames(source, counts):
        if not paths and frame.views:
            teacher.check_budget(len(source) * len(frame.views), frame.views[0].image)
        sample = make_sample(frame, neighbours(source, index, frame, spec.view_window), teacher, spec)
        if len(sample.point) == 0:
            counts.unseen += 1
            continue
        paths.append(folder / f"{index:06d}.npz")
        save_sample(paths[-1], sample)
        counts.used, counts.pairs = counts.used + 1, counts.pairs + len(sample.point)
    log.info("Pairs: %s", counts)
    if not paths:
        raise DatasetError(f"No frame has a pixel in view ({counts})", "Check the calibration and the poses")
    return paths, counts


def prepare_maps(source: Sequence[Frame], teacher: Teacher, spec: PairSpec) -> tuple[list[int], dict[str, Any]]:
    """Store the teacher's features of every image; the indices of frames with a pixel in view, and the counts.

    Raises:
        DatasetError: the teacher's features exceed their budget, or no frame has a pixel in view.
    """
    found: list[int] = []
    counts = Counts()
    for index, frame in read_frames(source, counts):
        if not found and frame.views:
            teacher.check_budget(len(source) * len(frame.views), frame.views[0].image)
        pairs = pair(frame, replace(spec, sweeps=1))
        if len(pairs) == 0:
            counts.unseen += 1
            continue
        for view in frame.views:
            teacher.path(view.image)
        found.append(index)
        counts.used, counts.pairs = counts.used + 1, counts.pairs + len(pairs)
    log.info("Frames: %s", counts)
    if not found:
        raise DatasetError(f"No frame has a pixel in view ({counts})", "Check the calibration and the poses")
    return found, counts.to_dict()
