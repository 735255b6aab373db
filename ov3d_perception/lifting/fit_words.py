"""A bank whose words are fitted to the frames of a source: what ``ov3d bank fit`` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
from jaxtyping import Float32

from ov3d_perception.errors import DatasetError, RecipeError
from ov3d_perception.language.bank import TextBank
from ov3d_perception.language.encoder import load_encoder
from ov3d_perception.language.fit import ROUNDS, STRENGTH, Fitted, fit_words
from ov3d_perception.lifting.consolidate import basis_of, consolidate
from ov3d_perception.lifting.frames import Counts, read_frames
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.lifting.sources import bank_of, open_source, open_vocabulary
from ov3d_perception.paths import cache_dir
from ov3d_perception.recipes.specs import PairSpec, Recipe, SourceSpec
from ov3d_perception.types import Frame

_MOST = 100_000  # features


def fitted_bank(
    recipe: Recipe, source: SourceSpec | None = None, strength: float = STRENGTH, rounds: int = ROUNDS
) -> tuple[TextBank, str]:
    """The recipe's bank with the words of its classes fitted to a source (the recipe's own by default), and a report.

    Raises:
        RecipeError: the recipe's words are not from a bank.
        TeachingError, DatasetError, IdentityError: as the fit, the source and the words raise them.
    """
    bank = None if recipe.vocabulary is None else bank_of(recipe.vocabulary)
    if recipe.vocabulary is None or bank is None:
        raise RecipeError(
            "The recipe has no words of a text bank that could be fitted",
            "Give it vocabulary.labelset and vocabulary.text, a bank (ov3d bank make writes one)",
        )
    encoder = load_encoder(recipe.teacher.model, recipe.teacher.pretrained, "auto", recipe.teacher.precision)
    teacher = ImageTeacher(encoder, recipe.teacher, cache_dir() / "teacher")
    vocabulary = open_vocabulary(recipe.vocabulary, encoder.identity)
    spec = source or recipe.train
    features = features_of(open_source(spec), teacher, recipe.pairs)
    fitted = fit_words(
        features, vocabulary.embeddings, vocabulary.prompt_class, vocabulary.logit_scale, strength, rounds
    )
    origin = {
        "from": "fit",
        "source": f"{spec.dataset} {spec.root}",
        "features": len(features),
        "labelset": recipe.vocabulary.labelset,
        "strength": fitted.strength,
        "rounds": rounds,
        "date": datetime.now(timezone.utc).isoformat(),
        "encoder": str(encoder.identity),
    }
    for word, embedding in zip(vocabulary.prompts, fitted.embeddings, strict=True):
        bank = bank.with_word(word, embedding, origin, replace=True)
    return bank, report(vocabulary.names, fitted, len(features))


def features_of(source: Sequence[Frame], teacher: ImageTeacher, spec: PairSpec) -> Float32[np.ndarray, "n d"]:
    """Consolidated features of points that images see, in the encoder's space, evenly over the frames.

    Raises DatasetError where no point is in view.
    """
    spec = replace(spec, sweeps=1)
    basis, counts = basis_of(source, teacher, spec), Counts()
    each = -(-_MOST // max(1, len(source)))
    found = []
    for _, _, said in consolidate(read_frames(source, counts), teacher, spec, basis):
        rows = said.row[np.linspace(0, len(said.row) - 1, min(each, len(said.row))).astype(int)]
        found.append((said.feature[rows] @ basis).numpy())
    if not sum(map(len, found)):
        raise DatasetError("No frame has a pixel in view", "Check the calibration and the poses")
    return np.concatenate(found)


def report(names: Sequence[str], fitted: Fitted, features: int) -> str:
    """What the fit has changed, in Markdown."""
    lines = [f"Fitted to {features} points, strength {fitted.strength:.2g}. Share of the points by class:", ""]
    lines += ["| class | before | after |", "|---|---|---|"]
    lines += [f"| {n} | {b:.1%} | {a:.1%} |" for n, b, a in zip(names, fitted.before, fitted.after, strict=True)]
    return "\n".join(lines)
