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
from ov3d_perception.evaluation.significance import Change, Paired, change
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
BY_LABELS, BY_TEACHER = "mIoU by labels", "agreement with the sure teacher (mIoU)"
"""What a change of mean IoU was measured by."""


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
    changes: of mean IoU, by what counts as truth: :data:`BY_LABELS`; :data:`BY_TEACHER`, where it is sure, in frames
    without labels, and in all of the new place.
    """

    name: str
    new: bool
    frames: int
    sure: float
    teacher: Scores | None
    before: Measures
    after: Measures
    changes: dict[str, Change]


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


class Contest:
    """The running network (before) and the candidate (after) on the frames of one place, as many as are looked at.

    name: of the place, for people. text, classes: the words; labels of the frames are in their order. pairs:
    association settings for the teacher; without a teacher, what needs one is left out. sure: probability from which on
    the teacher counts. new: whether the candidate was made for this place.
    Raises IdentityError: networks, words and teacher are not of one encoder.
    """

    def __init__(
        self,
        name: str,
        before: Segmenter,
        after: Segmenter,
        text: TextSource,
        classes: dict[str, list[str]],
        pairs: PairSpec,
        teacher: ImageTeacher | None,
        sure: float = 0.6,
        new: bool = False,
    ) -> None:
        self.name, self.new = name, new
        self._vocabulary, strange = Vocabulary.from_words(classes, text), absent_words(text, classes)
        extended = Vocabulary.from_words({**classes, **{word: [word] for word in strange}}, text) if strange else None
        self._networks = [_One(segmenter, self._vocabulary, extended) for segmenter in (before, after)]
        self._teacher, self._pairs, self._sure = teacher, pairs, sure
        names = self._vocabulary.names
        self._counts, self._seen, self._believed, self._by_teacher = Counts(), 0, 0, Confusion(names)
        self.paired = {BY_LABELS: Paired(names), BY_TEACHER: Paired(names)}

    def look(self, frames: Sequence[Frame]) -> None:
        """Compare on these frames, too; best those that neither network was trained on.

        Raises DatasetError: the labels are of other classes than the words.
        """
        require_classes(frames, self._vocabulary.names)
        for _, frame in read_frames(frames, self._counts):
            taught = None
            if self._teacher is not None and frame.views:
                taught, in_view = sure_labels(self._teacher, frame, self._pairs, self._vocabulary, self._sure)
                self._seen, self._believed = self._seen + in_view, self._believed + int((taught != UNLABELLED).sum())
                if frame.labels is not None:
                    rows = taught != UNLABELLED
                    self._by_teacher.update(taught[rows], frame.labels[rows])
            found = [network.label(frame) for network in self._networks]
            for network, one in zip(self._networks, found, strict=True):
                network.against(one, taught, frame.labels)
            by_teacher = taught if frame.labels is None or self.new else None  # labels know better, on an old place
            drive = frame.name.rpartition("/")[0]
            for kind, truth in ((BY_LABELS, frame.labels), (BY_TEACHER, by_teacher)):
                if truth is not None:
                    self.paired[kind].add(drive, truth, found[0].label, found[1].label)
            self._counts.used += 1

    def comparison(self) -> Comparison:
        """So far. Raises DatasetError where no frame could be read."""
        if self._counts.used == 0:
            raise DatasetError(
                f"No frame of {self.name} can be read ({self._counts})", "Check the source, or leave it out"
            )
        judged, seen = self._by_teacher.scores(), self._seen
        share = self._believed / seen if seen else float("nan")
        changes = {kind: found for kind, paired in self.paired.items() if (found := change([paired])) is not None}
        before, after = (network.measures() for network in self._networks)
        teacher = judged if judged.points else None
        return Comparison(self.name, self.new, self._counts.used, share, teacher, before, after, changes)


def change_together(contests: Sequence[Contest]) -> Change | None:
    """The mean change over all old places; None where there is none with truth."""
    return change([paired for contest in contests if not contest.new for paired in contest.paired.values()])


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
