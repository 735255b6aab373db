"""The first half of a run: every frame is read once and associated, its images are encoded, samples stay on disk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from ov3d_perception.errors import DatasetError, Ov3dError
from ov3d_perception.lifting.image_teacher import ImageTeacher, map_name
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
            f"{self.used} frames used with {self.pairs} pairs, {self.unseen} with no pixel in view, "
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

    The sequence is the part of a frame's name before the last "/". A neighbour that cannot be read is skipped.
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


@dataclass(frozen=True)
class Prepared:
    """A frame that a run trains on: its index in the source, and the file names of the teacher's maps that it needs."""

    frame: int
    maps: tuple[str, ...]


def sample_path(folder: Path, frame: int) -> Path:
    """Where :func:`prepare_samples` keeps the sample of a frame."""
    return folder / f"{frame:06d}.npz"


def prepare_samples(
    source: Sequence[Frame], teacher: ImageTeacher, spec: PairSpec, folder: Path, unseen: bool = False
) -> tuple[list[Prepared], Counts]:
    """Write one sample a frame under ``folder``, and the teacher's maps of the images that see its points.

    unseen: whether frames that no pixel sees are used, too; one that pixels see must be there.

    Raises:
        DatasetError: the teacher's features exceed their budget, or no frame has a pixel in view.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def make(index: int, frame: Frame) -> tuple[int, tuple[str, ...]]:
        sample = make_sample(frame, neighbours(source, index, frame, spec.view_window), teacher, spec)
        if unseen or len(sample.point):
            save_sample(sample_path(folder, index), sample)
        return len(sample.point), sample.maps

    return _prepare(source, teacher, make, unseen)


def prepare_maps(source: Sequence[Frame], teacher: ImageTeacher, spec: PairSpec) -> tuple[list[Prepared], Counts]:
    """Write the teacher's maps of all images of the frames with a pixel in view.

    Raises:
        DatasetError: the teacher's features exceed their budget, or no frame has a pixel in view.
    """

    def make(_: int, frame: Frame) -> tuple[int, tuple[str, ...]]:
        pairs = pair(frame, replace(spec, sweeps=1))
        return len(pairs), tuple(teacher.store(view.image) for view in frame.views) if len(pairs) else ()

    return _prepare(source, teacher, make)


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


def _prepare(
    source: Sequence[Frame],
    teacher: ImageTeacher,
    make: Callable[[int, Frame], tuple[int, tuple[str, ...]]],
    unseen: bool = False,
) -> tuple[list[Prepared], Counts]:
    """make: gives the number of pairs of a frame and its maps."""
    prepared: list[Prepared] = []
    counts = Counts()
    for index, frame in read_frames(source, counts):
        if not prepared and frame.views:
            teacher.check_budget(len(source) * len(frame.views), frame.views[0].image)
        pairs, maps = make(index, frame)
        if pairs == 0:
            counts.unseen += 1
            if not unseen:
                continue
        prepared.append(Prepared(index, maps))
        counts.used, counts.pairs = counts.used + 1, counts.pairs + pairs
    log.info("Frames: %s", counts)
    if counts.pairs == 0:
        raise DatasetError(f"No frame has a pixel in view ({counts})", "Check the calibration and the poses")
    return prepared, counts
