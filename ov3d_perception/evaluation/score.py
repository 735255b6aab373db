"""What a checkpoint is worth: the 3D network alone, with its teacher's projection on the same points beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32

from ov3d_perception.errors import DatasetError, IdentityError
from ov3d_perception.evaluation.metrics import Confusion
from ov3d_perception.evaluation.result import Result
from ov3d_perception.evaluation.unlabelled import Unlabelled
from ov3d_perception.inference import LiveModel, Segmenter
from ov3d_perception.language.text_classifier import TextClassifier
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.lifting.consolidate import Consolidated, basis_of, consolidate
from ov3d_perception.lifting.frames import Counts, read_frames
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.lifting.pairs import fused_teacher, image_size, pair
from ov3d_perception.lifting.sources import require_classes, words_of
from ov3d_perception.recipes.specs import PairSpec
from ov3d_perception.types import Frame, PixelPointPairs

STUDENT_IN_VIEW = "student, 3D only, in view"
STUDENT_ALL = "student, 3D only, all points"
TEACHER_IN_VIEW = "teacher's projection, in view"
TEACHER_WINDOW = "teacher's projection, fused over neighbouring frames, in view"
AGREEMENT = "student against its teacher's projection (no labels), in view"


def score(
    segmenter: Segmenter,
    source: Sequence[Frame],
    vocabulary: Vocabulary,
    pairs: PairSpec,
    teacher: ImageTeacher | None = None,
    about: dict[str, Any] | None = None,
    watch: Callable[[Frame, Int32[np.ndarray, " n"]], None] | None = None,
) -> Result:
    """Score a checkpoint on the labelled frames of a source; where no frame has labels, by label-free measures.

    A point is in view when one of its own frame's images sees it under ``pairs`` (neighbouring frames do not count).
    No image enters the student's prediction. mIoU is over the classes present in the ground truth of the mode's points;
    in the mode :data:`AGREEMENT` the teacher's labels take the place of the ground truth.

    Args:
        segmenter: the loaded checkpoint.
        source: frames with labels in the vocabulary's class order; those without are skipped if any frame has labels.
        vocabulary: of the label set's prompts.
        pairs: association settings. The student's input is merged as the checkpoint's preparation says.
        teacher: adds its projection on the same points.
        about: what to record with the figures (split, seeds, ...).
        watch: is shown each frame with the student's labels.

    Raises:
        DatasetError: no frame that can be read; the source's label set has other classes than the vocabulary.
        IdentityError: the teacher is another encoder than the checkpoint's.
    """
    if teacher is not None and not segmenter.identity.compatible(teacher.identity):
        raise IdentityError(
            f"The checkpoint was distilled from {segmenter.identity}, the teacher is {teacher.identity}",
            "Name the checkpoint's own encoder as teacher",
        )
    require_classes(source, vocabulary.names)
    model = LiveModel.of(segmenter, vocabulary)
    modes = {
        name: Confusion(vocabulary.names) for name in (STUDENT_IN_VIEW, TEACHER_IN_VIEW, TEACHER_WINDOW, STUDENT_ALL)
    }
    counts, unlabelled, compared = Counts(), Unlabelled(vocabulary.names), 0
    for frame, said, basis in _frames(source, counts, teacher, pairs):
        predicted = model(frame.sweeps)
        if frame.labels is None:
            unlabelled.update(predicted)
            if teacher is not None and counts.used == 0 and len(own := pair(frame, pairs)):
                compared += len(own)
                seen = np.unique(own.point[own.point < len(predicted.label)])
                taught = label_by_teacher(teacher, frame, own, vocabulary)
                unlabelled.agreement.update(predicted.label[seen], taught[seen])
            continue
        student, truth = predicted.label, frame.labels
        modes[STUDENT_ALL].update(student, truth)
        if watch is not None:
            watch(frame, student)
        own = pair(frame, pairs)
        seen = np.unique(own.point[own.point < len(truth)])
        counts.used, counts.unseen = counts.used + 1, counts.unseen + (len(seen) == 0)
        counts.pairs += len(own)
        modes[STUDENT_IN_VIEW].update(student[seen], truth[seen])
        if teacher is None or len(seen) == 0:
            continue
        modes[TEACHER_IN_VIEW].update(label_by_teacher(teacher, frame, own, vocabulary)[seen], truth[seen])
        if said is not None:
            fused = np.zeros(len(truth), np.int32)
            fused[said.point] = classify(said.feature, vocabulary, basis)[0][said.row]
            modes[TEACHER_WINDOW].update(fused[seen], truth[seen])
    if counts.used == 0 and unlabelled.frames == 0:
        raise DatasetError(f"No frame of the source can be read ({counts})", "Check the data set, or name another")
    labelled = counts.used > 0
    if not labelled:
        counts.used, counts.pairs = unlabelled.frames, compared
    origin = _origin(segmenter, vocabulary, pairs, teacher) | {"frames": counts.to_dict()}
    if not labelled:
        agreement = {AGREEMENT: unlabelled.agreement} if unlabelled.agreement.scores().points else {}
        return Result(
            {name: confusion.scores() for name, confusion in agreement.items()},
            origin | (about or {}),
            vocabulary.names,
            {name: confusion.matrix().tolist() for name, confusion in agreement.items()},
            unlabelled.measures(),
        )
    scored = {name: confusion for name, confusion in modes.items() if confusion.scores().points}
    return Result(
        {name: confusion.scores() for name, confusion in scored.items()},
        origin | (about or {}),
        vocabulary.names,
        {name: confusion.matrix().tolist() for name, confusion in scored.items()},
    )


def _frames(
    source: Sequence[Frame], counts: Counts, teacher: ImageTeacher | None, pairs: PairSpec
) -> Iterator[tuple[Frame, Consolidated | None, Float[torch.Tensor, "k d"] | None]]:
    """The frames; where images of others teach them too, with what all of these say, in the coordinates of a basis."""
    if teacher is None or pairs.view_window == 0:
        yield from ((frame, None, None) for _, frame in read_frames(source, counts))
        return
    pairs, basis = replace(pairs, sweeps=1), basis_of(source, teacher, pairs)
    for _, frame, said in consolidate(read_frames(source, counts), teacher, pairs, basis):
        yield frame, said, basis


def label_by_teacher(
    teacher: ImageTeacher, frame: Frame, pairs: PixelPointPairs, vocabulary: Vocabulary
) -> Int32[np.ndarray, " n"]:
    """The teacher's label of each point of the key sweep; meaningful for points that ``pairs`` names."""
    return classify(project(teacher, frame, pairs), vocabulary)[0]


def project(teacher: ImageTeacher, frame: Frame, pairs: PixelPointPairs) -> Float[torch.Tensor, "n d"]:
    """The teacher's feature of each point of the key sweep, the mean over the views that ``pairs`` names; else zero."""
    points = len(frame.sweeps[0].scan)
    key = pairs.point < points
    mine = PixelPointPairs(*(getattr(pairs, name)[key] for name in ("point", "sweep", "camera", "uv", "depth")))
    maps, sizes = [teacher.dense(view.image) for view in frame.views], [image_size(view) for view in frame.views]
    return fused_teacher(maps, sizes, mine, points)


def classify(
    features: Float[torch.Tensor, "n k"], vocabulary: Vocabulary, basis: Float[torch.Tensor, "k d"] | None = None
) -> tuple[Int32[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """The most probable class and its probability, as the student's are: see :meth:`TextClassifier.classify`.

    basis: the directions that the features are given in, as rows; None where they are in the encoder's own.
    """
    rows = np.eye(features.shape[1], dtype=np.float32) if basis is None else basis.numpy()
    text = TextClassifier(rows, vocabulary.embeddings)
    label, probability = text.classify(features, vocabulary.prompt_class, vocabulary.logit_scale)
    return np.asarray(label.numpy()), np.asarray(probability.numpy())


def _origin(
    segmenter: Segmenter, vocabulary: Vocabulary, pairs: PairSpec, teacher: ImageTeacher | None
) -> dict[str, Any]:
    """What every figure must be read with."""
    return {
        "prompts": words_of(vocabulary),
        "encoder": str(segmenter.identity),
        "association": asdict(pairs),
        "preparation": asdict(segmenter.info.preparation),
        "teacher": None if teacher is None else asdict(teacher.spec),
        "test-time augmentation": "none",
        "2D-3D ensemble": "none",
    }
