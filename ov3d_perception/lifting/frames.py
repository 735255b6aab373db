"""The first half of a run: every frame is read once and associated, its images are encoded, samples stay on disk."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ov3d_perception.errors import DatasetError, Ov3dError
from ov3d_perception.files import replacing
from ov3d_perception.geometry.sweeps import merge
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.lifting.compact import compact
from ov3d_perception.lifting.consolidate import basis_of, consolidate
from ov3d_perception.lifting.image_teacher import ImageTeacher, map_name
from ov3d_perception.lifting.pairs import Sample, pair, save_sample
from ov3d_perception.recipes.specs import PairSpec
from ov3d_perception.types import Frame

log = logging.getLogger(__name__)

BASIS = "basis.npy"
"""Beside the samples: the directions that their features are given in, as rows."""


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
            f"{self.used} frames used with {self.pairs} pairs, {self.unseen} with no pixel in view, "
            f"{self.corrupt} skipped as unreadable"
        )

    def add(self, pairs: int, anyway: bool = False) -> bool:
        """Count a frame with so many pairs; True if it is used: if it has one, or ``anyway``."""
        used = pairs > 0 or anyway
        self.used, self.unseen, self.pairs = self.used + used, self.unseen + (pairs == 0), self.pairs + pairs
        return used

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


@dataclass(frozen=True)
class Prepared:
    """A frame that a run trains on: its index in the source, and the file names of the teacher's maps that it needs."""

    frame: int
    maps: tuple[str, ...]


def sample_path(folder: Path, frame: int) -> Path:
    """Where :func:`prepare_samples` keeps the sample of a frame."""
    return folder / f"{frame:06d}.npz"


def prepare_samples(
    source: Sequence[Frame],
    teacher: ImageTeacher,
    spec: PairSpec,
    folder: Path,
    vocabulary: Vocabulary | None = None,
    unseen: bool = False,
) -> tuple[list[Prepared], Counts]:
    """Write one sample a frame under ``folder``, and the basis of their features.

    vocabulary: the classes that the samples' confidence is about. unseen: whether frames that no pixel sees are used,
    too; one that pixels see must be there.

    Raises:
        DatasetError: the teacher's features exceed their budget, or no frame has a pixel in view.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prepared: list[Prepared] = []
    counts = Counts()
    frames = _in_budget(read_frames(source, counts), teacher, len(source))
    first = list(islice(frames, 1))
    basis = basis_of(source, teacher, spec)
    with replacing(folder / BASIS, durable=False) as file:
        np.save(file, basis.numpy())
    for index, frame, said in consolidate(chain(first, frames), teacher, spec, basis, vocabulary):
        if not counts.add(said.pairs, anyway=unseen):
            continue
        cloud = merge(frame.sweeps[: spec.sweeps])
        features = compact(said.feature)
        confidence = said.confidence.numpy().astype(np.float16)
        save_sample(
            sample_path(folder, index),
            Sample(cloud.xyz, cloud.intensity, said.point, said.row, features.code, features.scale, confidence),
        )
        prepared.append(Prepared(index, ()))
    return _told(prepared, counts)


def prepare_maps(source: Sequence[Frame], teacher: ImageTeacher, spec: PairSpec) -> tuple[list[Prepared], Counts]:
    """Write the teacher's maps of all images of the frames with a pixel in view.

    Raises:
        DatasetError: the teacher's features exceed their budget, or no frame has a pixel in view.
    """

    prepared: list[Prepared] = []
    counts = Counts()
    for index, frame in _in_budget(read_frames(source, counts), teacher, len(source)):
        if counts.add(len(pair(frame, replace(spec, sweeps=1)))):
            prepared.append(Prepared(index, tuple(teacher.store(view.image) for view in frame.views)))
    return _told(prepared, counts)


def restore_maps(source: Sequence[Frame], teacher: ImageTeacher, prepared: Sequence[Prepared]) -> int:
    """Encode again what is no longer in the teacher's folder, so that a run goes on after its cache was emptied.

    Returns how many maps were made. Raises DatasetError where an image of the run is no longer in the source.
    """
    missing = {name for frame in prepared for name in frame.maps if not (teacher.folder / name).exists()}
    count = len(missing)
    if not missing:
        return 0
    log.info("%d of the teacher's maps are gone from %s and are made anew", count, teacher.folder)
    for _, frame in read_frames(source, Counts()):
        for image in (view.image for view in frame.views):
            if (name := map_name(image)) in missing:
                teacher.store(image)
                missing.remove(name)
        if not missing:
            return count
    raise DatasetError(
        f"{len(missing)} images that the run was started with are no longer in its source",
        "Bring the data back as it was, or start a new run",
    )


def _in_budget(frames: Iterator[tuple[int, Frame]], teacher: ImageTeacher, total: int) -> Iterator[tuple[int, Frame]]:
    """The frames, after a check that the maps of ``total`` such frames are within the teacher's budget."""
    checked = False
    for index, frame in frames:
        if frame.views and not checked:
            teacher.check_budget(total * len(frame.views), frame.views[0].image)
            checked = True
        yield index, frame


def _told(prepared: list[Prepared], counts: Counts) -> tuple[list[Prepared], Counts]:
    log.info("Frames: %s", counts)
    if counts.pairs == 0:
        raise DatasetError(f"No frame has a pixel in view ({counts})", "Check the calibration and the poses")
    return prepared, counts
