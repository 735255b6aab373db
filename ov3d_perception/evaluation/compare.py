"""Two networks on the same frames of one place, by measures that need no labels, and by labels where there are some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32

from ov3d_perception.errors import DatasetError
from ov3d_perception.evaluation.metrics import Confusion, Scores
from ov3d_perception.evaluation.passes import Calibration, Passes
from ov3d_perception.evaluation.score import classify, project
from ov3d_perception.geometry.poses import transform
from ov3d_perception.inference import LiveModel, Segmenter
from ov3d_perception.language.vocabulary import TextSource, Vocabulary
from ov3d_perception.lifting.frames import Counts, read_frames
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.lifting.pairs import pair
from ov3d_perception.lifting.sources import require_classes
from ov3d_perception.recipes.specs import PairSpec
from ov3d_perception.types import UNLABELLED, Frame, Segmentation

ABSENT = ("giraffe", "elephant", "submarine", "airplane", "pizza", "piano", "iceberg", "dinosaur", "volcano")
"""Words for what no site has; a network that finds them is lost."""


@dataclass(frozen=True)
class Measures:
    """Of one network on one place.

    agreement: with the teacher, on the points in view where the teacher is sure; its labels are the truth of these
    scores. passes: agreement with itself (:class:`Passes`). share: of all points, by class. absent: share of the points
    that one of the absent words fits better than every class; NaN where the text source has none of them.
    calibration: expected error of the probabilities, against labels or else the sure teacher. labels: scores on all
    points, where there are labels.
    """

    agreement: Scores
    passes: float
    share: dict[str, float]
    absent: float
    calibration: float
    labels: Scores | None


@dataclass(frozen=True)
class Comparison:
    """A place, and what the running network and the candidate make of it.

    name: for people. new: whether the candidate was made for it. frames: that were compared. sure: share of the points
    in view where the teacher is sure; NaN without a teacher. teacher: its scores against labels, on sure points.
    """

    name: str
    new: bool
    frames: int
    sure: float
    teacher: Scores | None
    before: Measures
    after: Measures


class _One:
    """Collects the measures of one network."""

    def __init__(self, segmenter: Segmenter, vocabulary: Vocabulary, absent: Vocabulary | None) -> None:
        names = vocabulary.names
        self.model = LiveModel.of(segmenter, vocabulary)
        self.with_absent = LiveModel.of(segmenter, absent) if absent is not None else None
        self.agreement, self.labels = Confusion(names), Confusion(names)
        self.passes, self.calibration = Passes(len(names)), Calibration()
        self._count, self._strange = np.zeros(len(names), np.int64), 0
        self.names = names

    def label(self, frame: Frame) -> Segmentation:
        """The frame's labels, counted."""
        voxels = self.model.features(self.model.merge(frame.sweeps), len(frame.sweeps[0].scan))
        found = self.model.label(voxels)
        if self.with_absent is not None:
            self._strange += int((self.with_absent.label(voxels).label >= len(self.names)).sum())
        known = found.label != UNLABELLED
        self._count += np.bincount(found.label[known], minlength=len(self.names))
        key = frame.sweeps[0]
        drive = frame.name.rpartition("/")[0]
        self.passes.add(transform(key.T_world_lidar, key.scan.xyz), found.label, drive)
        return found

    def against(
        self, found: Segmentation, taught: Int32[np.ndarray, " n"] | None, labels: Int32[np.ndarray, " n"] | None
    ) -> None:
        """Compare with the sure teacher's labels (UNLABELLED elsewhere) and with true ones."""
        if taught is not None:
            self.agreement.update(found.label, taught)
        if labels is not None:
            self.labels.update(found.label, labels)
        truth = taught if labels is None else labels
        if truth is not None:
            rows = truth != UNLABELLED
            self.calibration.add(found.probability[rows], found.label[rows] == truth[rows])

    def measures(self) -> Measures:
        """So far."""
        points = max(int(self._count.sum()), 1)
        share = {name: float(n) / points for name, n in zip(self.names, self._count.tolist(), strict=True)}
        absent = self._strange / points if self.with_absent is not None else float("nan")
        labels = self.labels.scores()
        return Measures(
            self.agreement.scores(),
            self.passes.agreement(),
            share,
            absent,
            self.calibration.error(),
            labels if labels.points else None,
        )


def compare(
    name: str,
    frames: Sequence[Frame],
    before: Segmenter,
    after: Segmenter,
    text: TextSource,
    classes: dict[str, list[str]],
    pairs: PairSpec,
    teacher: ImageTeacher | None,
    sure: float = 0.6,
    new: bool = False,
) -> Comparison:
    """The running network (before) and the candidate (after) on the frames of one place.

    Args:
        name: of the place, for people.
        frames: those that neither was trained on, best.
        text, classes: the words; ``labels`` of the frames are in their order.
        pairs: association settings for the teacher.
        teacher: None leaves out what needs it.
        sure: probability from which on the teacher counts.
        new: whether the candidate was made for this place.

    Raises:
        DatasetError: no frame can be read; the labels are of other classes than the words.
        IdentityError: networks, words and teacher are not of one encoder.
    """
    vocabulary, strange = Vocabulary.from_words(classes, text), absent_words(text, classes)
    extended = Vocabulary.from_words({**classes, **{word: [word] for word in strange}}, text) if strange else None
    require_classes(frames, vocabulary.names)
    networks = [_One(segmenter, vocabulary, extended) for segmenter in (before, after)]
    counts, seen, believed, by_teacher = Counts(), 0, 0, Confusion(vocabulary.names)
    for _, frame in read_frames(frames, counts):
        taught = None
        if teacher is not None and frame.views:
            taught, in_view = sure_labels(teacher, frame, pairs, vocabulary, sure)
            seen, believed = seen + in_view, believed + int((taught != UNLABELLED).sum())
            if frame.labels is not None:
                rows = taught != UNLABELLED
                by_teacher.update(taught[rows], frame.labels[rows])
        for network in networks:
            network.against(network.label(frame), taught, frame.labels)
        counts.used += 1
    if counts.used == 0:
        raise DatasetError(f"No frame of {name} can be read ({counts})", "Check the source, or leave it out")
    judged = by_teacher.scores()
    share = believed / seen if seen else float("nan")
    measures = (network.measures() for network in networks)
    return Comparison(name, new, counts.used, share, judged if judged.points else None, *measures)


def sure_labels(
    teacher: ImageTeacher, frame: Frame, pairs: PairSpec, vocabulary: Vocabulary, sure: float
) -> tuple[Int32[np.ndarray, " n"], int]:
    """The teacher's label of each point of the key sweep where it is sure, UNLABELLED elsewhere; points in view."""
    count = len(frame.sweeps[0].scan)
    own = pair(frame, pairs)
    seen = np.unique(own.point[own.point < count])
    taught = np.full(count, UNLABELLED, np.int32)
    if not len(seen):
        return taught, 0
    label: Int32[np.ndarray, " n"]
    probability: Float32[np.ndarray, " n"]
    label, probability = classify(project(teacher, frame, own), vocabulary)
    rows = seen[probability[seen] >= sure]
    taught[rows] = label[rows]
    return taught, len(seen)


def absent_words(text: TextSource, classes: dict[str, list[str]]) -> list[str]:
    """Of :data:`ABSENT`, the words that the text source knows and no class has."""
    known = getattr(text, "words", None)
    own = {word for words in classes.values() for word in words}
    return [word for word in ABSENT if word not in own and (known is None or word in known)]
