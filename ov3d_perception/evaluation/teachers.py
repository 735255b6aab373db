"""Image teachers side by side on one source: which settings see this site's things best, before anything is trained."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float32, Int32

from ov3d_perception.errors import DatasetError
from ov3d_perception.evaluation.metrics import Confusion, Scores
from ov3d_perception.evaluation.score import classify, project
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.lifting.consolidate import basis_of, consolidate
from ov3d_perception.lifting.frames import Counts, read_frames
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.lifting.pairs import pair
from ov3d_perception.lifting.sources import require_classes
from ov3d_perception.recipes.specs import PairSpec
from ov3d_perception.types import UNLABELLED, Frame

COVERAGES = (1.0, 0.8, 0.5)


@dataclass(frozen=True)
class TeacherScores:
    """What one teacher says of the points in view of a source.

    single: from a frame's own images alone, of the surest share of the points (1, 0.8, 0.5), by their probability.
    fused: consolidated over neighbouring frames, by their confidence (:mod:`ov3d_perception.lifting.consolidate`);
    empty without a window. Both are empty without labels.
    agreement: share of points that get the same class from the frame's own images and from the fused ones.
    share, confidence: of each class, its share of the points and its mean probability. seconds: to encode an image.
    """

    single: dict[float, Scores]
    fused: dict[float, Scores]
    agreement: float
    share: dict[str, float]
    confidence: dict[str, float]
    seconds: float


@dataclass
class _Points:
    """Labels, probabilities (or confidences) and truth of points, in parts."""

    label: list[Int32[np.ndarray, " n"]] = field(default_factory=list)
    probability: list[Float32[np.ndarray, " n"]] = field(default_factory=list)
    truth: list[Int32[np.ndarray, " n"]] = field(default_factory=list)

    def add(
        self, label: Int32[np.ndarray, " n"], probability: Float32[np.ndarray, " n"], truth: Int32[np.ndarray, " n"]
    ) -> None:
        self.label.append(label)
        self.probability.append(probability)
        self.truth.append(truth)

    def scores(self, names: Sequence[str]) -> dict[float, Scores]:
        if not self.label or all((truth == UNLABELLED).all() for truth in self.truth):
            return {}
        label, probability, truth = (np.concatenate(part) for part in (self.label, self.probability, self.truth))
        known = np.flatnonzero(truth != UNLABELLED)
        surest = known[np.argsort(-probability[known], kind="stable")]
        found = {}
        for coverage in COVERAGES:
            confusion = Confusion(names)
            sure = surest[: round(coverage * len(surest))]
            confusion.update(label[sure], truth[sure])
            found[coverage] = confusion.scores()
        return found


def compare_teachers(
    source: Sequence[Frame],
    teachers: Mapping[str, ImageTeacher],
    vocabulary: Vocabulary,
    pairs: PairSpec,
    watch: Callable[[Frame, str, ImageTeacher], None] | None = None,
) -> dict[str, TeacherScores]:
    """Each teacher's figures on the frames of a source that an image sees.

    Args:
        source: frames; labels, if they have some, in the vocabulary's class order.
        teachers: by name. What they encode goes to their cache.
        vocabulary: the words to tell apart.
        pairs: association settings; ``view_window`` makes the fused figures.
        watch: is shown each frame, once a teacher.

    Raises:
        DatasetError: no frame can be read, or no point is in view; the label set has other classes than the vocabulary.
    """
    require_classes(source, vocabulary.names)
    return {
        name: _measure(source, name, teacher, vocabulary, replace(pairs, sweeps=1), watch)
        for name, teacher in teachers.items()
    }


def _measure(
    source: Sequence[Frame],
    name: str,
    teacher: ImageTeacher,
    vocabulary: Vocabulary,
    pairs: PairSpec,
    watch: Callable[[Frame, str, ImageTeacher], None] | None,
) -> TeacherScores:
    own, wide, alike, seconds = _Points(), _Points(), 0, 0.0
    basis = basis_of(source, teacher, pairs)
    frames = read_frames(source, counts := Counts())
    for _, frame, said in consolidate(frames, teacher, pairs, basis, vocabulary):
        mine = pair(frame, pairs)
        if not len(mine):
            continue
        if not own.label:
            start = time.perf_counter()
            teacher.encode(frame.views[0].image)
            seconds = time.perf_counter() - start
        seen = np.unique(mine.point)
        truth = np.full(len(seen), UNLABELLED, np.int32) if frame.labels is None else frame.labels[seen]
        label, probability = classify(project(teacher, frame, mine)[seen], vocabulary)
        own.add(label, probability, truth)
        if pairs.view_window > 0:
            row = said.row[np.searchsorted(said.point, seen)]
            fused = classify(said.feature, vocabulary, basis)[0][row]
            wide.add(fused, said.confidence.numpy()[row], truth)
            alike += int((fused == label).sum())
        if watch is not None:
            watch(frame, name, teacher)
    if not own.label:
        raise DatasetError(f"No frame has a pixel in view ({counts})", "Check the calibration and the poses")
    label, probability = np.concatenate(own.label), np.concatenate(own.probability)
    given = {word: label == number for number, word in enumerate(vocabulary.names)}
    return TeacherScores(
        own.scores(vocabulary.names),
        wide.scores(vocabulary.names),
        alike / len(label),
        {word: float(mask.mean()) for word, mask in given.items() if mask.any()},
        {word: float(probability[mask].mean()) for word, mask in given.items() if mask.any()},
        seconds,
    )


def teachers_table(found: Mapping[str, TeacherScores]) -> str:
    """Markdown: a row a teacher; IoU by class below where there are labels, else the words that are least sure."""
    first = next(iter(found.values()))
    if not first.single:
        lines = ["| teacher | same class, own and fused images | s an image | least sure words |", "|---|---|---|---|"]
        for name, one in found.items():
            unsure = sorted(one.confidence.items(), key=lambda entry: entry[1])[:3]
            words = ", ".join(f"{word} {sure:.2f} ({one.share[word]:.1%} of points)" for word, sure in unsure)
            lines.append(f"| {name} | {one.agreement:.3f} | {one.seconds:.2f} | {words} |")
        return "\n".join(lines) + "\n"
    modes = {"single": "own images", "fused": "fused over frames"}
    modes = {mode: title for mode, title in modes.items() if getattr(first, mode)}
    heads = [f"{title}, {_share(coverage)}" for title in modes.values() for coverage in COVERAGES]
    lines = ["| teacher | " + " | ".join(heads) + " | s an image |", "|---" * (len(heads) + 2) + "|"]
    for name, one in found.items():
        cells = [f"{getattr(one, mode)[coverage].miou:.3f}" for mode in modes for coverage in COVERAGES]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {one.seconds:.2f} |")
    lines += ["", "| IoU, own images | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
    for word in first.single[1.0].iou:
        lines.append(f"| {word} | " + " | ".join(f"{one.single[1.0].iou[word]:.2f}" for one in found.values()) + " |")
    return "\n".join(lines) + "\n"


def _share(coverage: float) -> str:
    return "all points" if coverage == 1.0 else f"surest {coverage:.0%}"
