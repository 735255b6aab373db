"""Evaluate a finished checkpoint on any labelled source, with the teacher that its recipe names."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ov3d_perception.errors import DatasetError
from ov3d_perception.inference import Segmenter
from ov3d_perception.language.encoder import load_encoder
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.networks.checkpoint import CheckpointInfo
from ov3d_perception.training.evaluate import Result, evaluate
from ov3d_perception.training.recipe import Recipe, SourceSpec, VocabularySpec, from_dict
from ov3d_perception.training.sources import open_source, open_vocabulary
from ov3d_perception.training.teacher import Teacher


def evaluate_checkpoint(
    checkpoint: Path,
    dataset: str,
    root: str,
    options: dict[str, Any],
    *,
    labelset: str = "",
    text: str = "",
    with_teacher: bool = True,
) -> Result:
    """Scores of ``checkpoint`` on ``dataset`` (a name of the registry) below ``root``.

    labelset: classes and prompts, by default the recipe's; it goes to the data set, too. text: bank or model with a
    text tower, by default the recipe's. Relative paths of the recipe are those of the working directory.
    Raises CheckpointError, DatasetError, EncoderError, IdentityError as the pieces do.
    """
    segmenter = Segmenter.load(checkpoint)
    recipe = _recipe(segmenter.info)
    vocabulary = _vocabulary(segmenter, recipe, labelset, text)
    chosen = labelset or (recipe.vocabulary.labelset if recipe.vocabulary else "")
    spec = SourceSpec(dataset, root, {**({"labelset": chosen} if chosen else {}), **options})
    teacher = None
    if with_teacher:
        teacher = Teacher(recipe.teacher, load_encoder(recipe.teacher.model, recipe.teacher.pretrained))
    pairs = replace(recipe.pairs, view_window=0)
    about = {"checkpoint": str(checkpoint), "source": asdict(spec), "trained at commit": segmenter.info.commit}
    return evaluate(segmenter, open_source(spec), vocabulary, pairs, teacher, about)


def _recipe(info: CheckpointInfo) -> Recipe:
    if not info.recipe:
        raise DatasetError("The checkpoint carries no recipe", "Evaluate one that `ov3d distill` wrote")
    return from_dict(info.recipe)


def _vocabulary(segmenter: Segmenter, recipe: Recipe, labelset: str, text: str) -> Vocabulary:
    known = recipe.vocabulary
    if known is None and not (labelset and text):
        raise DatasetError("The checkpoint's recipe names no words", "Give --labelset and --text")
    if known is None:
        return open_vocabulary(VocabularySpec(labelset, text), segmenter.identity)
    changed = replace(known, labelset=labelset or known.labelset)
    return open_vocabulary(replace(changed, text=text, key=None) if text else changed, segmenter.identity)
