"""How sure the teacher is of what it sees in a recording, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ov3d_perception.doctor.report import Finding, Severity
from ov3d_perception.errors import DatasetError, RecipeError
from ov3d_perception.evaluation.gate import GateSpec
from ov3d_perception.evaluation.score import classify, project
from ov3d_perception.language.encoder import load_encoder
from ov3d_perception.lifting.frames import Counts, read_frames
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.lifting.pairs import pair
from ov3d_perception.lifting.sources import FrameSubset, open_vocabulary
from ov3d_perception.paths import cache_dir
from ov3d_perception.recipes.specs import Recipe
from ov3d_perception.types import Frame

_LITTLE = 0.3  # share of the points in view; of streets in their own words the teacher is sure of 0.5 and more


def check_teacher(source: Sequence[Frame], recipe: Recipe, frames: int = 10, gate: GateSpec | None = None) -> Finding:
    """The share of the points in view of which the recipe's teacher is sure, and of what, over some frames.

    Sure is what the gate of ``ov3d learn`` calls so: a probability of ``gate.sure_of`` and more.

    Raises:
        RecipeError: the recipe names no words. DatasetError: no frame can be read, or no point is in view.
        EncoderError, IdentityError: the teacher cannot be made, or its words are another encoder's.
    """
    gate = gate or GateSpec()
    if recipe.vocabulary is None:
        raise RecipeError("The recipe names no words to tell apart", "Add a vocabulary: section, or use --set")
    encoder = load_encoder(recipe.teacher.model, recipe.teacher.pretrained, "auto", recipe.teacher.precision)
    teacher = ImageTeacher(encoder, recipe.teacher, cache_dir() / "teacher")
    vocabulary = open_vocabulary(recipe.vocabulary, encoder.identity)
    chosen = np.unique(np.linspace(0, len(source) - 1, min(frames, len(source))).astype(int)).tolist()
    points, sure, of = 0, 0, np.zeros(len(vocabulary.names), np.int64)
    for _, frame in read_frames(FrameSubset(source, chosen), Counts()):
        pairs = pair(frame, recipe.pairs)
        if not len(pairs):
            continue
        seen = np.unique(pairs.point[pairs.point < len(frame.sweeps[0].scan)])
        label, probability = classify(project(teacher, frame, pairs)[seen], vocabulary)
        certain = probability >= gate.sure_of
        points, sure = points + len(seen), sure + int(certain.sum())
        of += np.bincount(label[certain], minlength=len(of))
    if not points:
        raise DatasetError("No point of the frames looked at is in view", "Look at the cameras' calibration")
    return _judged(str(encoder.identity), points, sure, dict(zip(vocabulary.names, of.tolist(), strict=True)), gate)


def _judged(teacher: str, points: int, sure: int, of: dict[str, int], gate: GateSpec) -> Finding:
    share = sure / points
    found = [name for name, count in sorted(of.items(), key=lambda one: -one[1]) if count > 0.005 * points]
    missing = [name for name in of if name not in found]
    what = f"the teacher is sure of {share:.0%} of {points} points in view"
    if found:
        what += f" ({', '.join(f'{name} {of[name] / points:.0%}' for name in found)})"
    if missing:
        what += f"; hardly of any {', '.join(missing)}"
    figures = {"share": share, "of": {name: count / points for name, count in of.items()}, "points": points}
    if share >= _LITTLE:
        return Finding(Severity.GOOD, "teacher", teacher, what, figures=figures)
    return Finding(
        Severity.ERROR if share < gate.sure else Severity.WARNING, "teacher", teacher, what,
        "What it is not sure of, it teaches badly", "Give words of this place, another encoder, or brighter images",
        figures,
    )  # fmt: skip
