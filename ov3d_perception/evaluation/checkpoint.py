"""From a checkpoint file and the names of a data set to its figures."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ov3d_perception.errors import CheckpointError
from ov3d_perception.evaluation.pictures import Pictures
from ov3d_perception.evaluation.result import Result
from ov3d_perception.evaluation.score import score
from ov3d_perception.inference import Segmenter
from ov3d_perception.language.encoder import load_encoder
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.lifting.sources import LABELS, as_prepared, open_source, open_vocabulary
from ov3d_perception.networks.checkpoint import CheckpointInfo
from ov3d_perception.networks.checkpoint_info import words_of_checkpoint
from ov3d_perception.paths import cache_dir
from ov3d_perception.recipes.former import of_checkpoint
from ov3d_perception.recipes.parse import from_dict
from ov3d_perception.recipes.specs import PairSpec, Recipe, SourceSpec, TeacherSpec, VocabularySpec


def evaluate_checkpoint(
    checkpoint: Path,
    dataset: str = "",
    root: str | Path = "",
    options: Mapping[str, Any] | None = None,
    *,
    labelset: str = "",
    text: str = "",
    key: str | None = None,
    with_teacher: bool = True,
    teacher: TeacherSpec | None = None,
    pairs: PairSpec | None = None,
    device: str = "auto",
    pictures: tuple[Path, int] | None = None,
) -> Result:
    """Score a checkpoint file; whatever is not given is taken from the recipe that the checkpoint carries.

    Args:
        checkpoint: written by ``train``.
        dataset, root, options: a source; default: the recipe's validation source. A bag has the options of the bag
            that the recipe trains on, where it is not given others; without the option
            ``labelset`` a data set of the recipe has the recipe's label set.
        labelset, text, key: the words and where their embeddings are; default: the checkpoint's own.
            ``text`` and ``key`` go together.
        with_teacher: score the teacher's projection on the same points too.
        teacher: how to load it, where the recipe's paths do not hold on this machine.
        pairs: association settings.
        device: auto, cpu or cuda.
        pictures: a folder, and of how many frames to draw truth and answer into it.

    Raises:
        CheckpointError: the checkpoint cannot be used, or carries no recipe to take a missing argument from.
        DatasetError: the source cannot be opened.
        IdentityError: the words or the teacher belong to another encoder than the checkpoint.
    """
    segmenter = Segmenter.load(checkpoint, device=device)
    recipe = from_dict(of_checkpoint(segmenter.info.recipe)) if segmenter.info.recipe else None
    source = _source(recipe, dataset, str(root), dict(options or {}), checkpoint)
    source = as_prepared(source, segmenter.info.preparation)
    with_teacher = with_teacher and segmenter.identity.model != LABELS
    spec = (teacher or (recipe.teacher if recipe else None)) if with_teacher else None
    if with_teacher and spec is None:
        raise CheckpointError(
            f"{checkpoint} carries no recipe that names its image teacher", "Evaluate without it: --no-teacher"
        )
    vocabulary, origin = _vocabulary(segmenter.info, checkpoint, recipe, labelset, text, key)
    about = {
        "source": asdict(source),
        "text": origin,
        "checkpoint": f"{checkpoint.name} sha256 {hashlib.sha256(checkpoint.read_bytes()).hexdigest()}",
        "trained on": asdict(recipe.train) if recipe else "unknown",
        "commit": segmenter.info.commit,
    }
    frames = open_source(source)
    pairs = pairs or (recipe.pairs if recipe else PairSpec())
    watch = Pictures(pictures[0], vocabulary.names, pictures[1]) if pictures else None
    return score(segmenter, frames, vocabulary, pairs, _teacher(spec, device) if spec else None, about, watch)


def _options(recipe: Recipe | None, dataset: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The data set's options; without one for its label set, that of the recipe's source of the same data set."""
    for source in (recipe.validation, recipe.train) if recipe else ():
        if source and source.dataset == dataset and "labelset" in source.options:
            return {"labelset": source.options["labelset"], **options}
    return dict(options)


def _source(recipe: Recipe | None, dataset: str, root: str, options: dict[str, Any], checkpoint: Path) -> SourceSpec:
    if not dataset:
        if recipe is None or recipe.validation is None:
            raise CheckpointError(
                f"{checkpoint} carries no recipe with a validation source", "Name the source: --dataset and --root"
            )
        given = recipe.validation
        return replace(given, root=root or given.root, options={**given.options, **options})
    own = recipe.train.options if recipe and recipe.train.dataset == dataset == "bag" else {}
    return SourceSpec(dataset, root, _options(recipe, dataset, {**own, **options}))


def _vocabulary(
    info: CheckpointInfo, checkpoint: Path, recipe: Recipe | None, labelset: str, text: str, key: str | None
) -> tuple[Vocabulary, dict[str, Any]]:
    """The words to evaluate in, and where they are from: ``text``, else the checkpoint's bank, else the recipe's."""
    spec = _words(recipe, labelset, text, key)
    named = labelset or (spec.labelset if spec else "")
    prompts = LabelSet.load(named).prompts if named else info.vocabulary
    if not text and info.bank is not None and info.identity.model != LABELS:
        bank = words_of_checkpoint(info, checkpoint)
        if all(word in bank for words in prompts.values() for word in words):
            about = asdict(spec) if spec else {"labelset": labelset}
            return Vocabulary.from_words(prompts, bank), about | {"text": "the checkpoint's own"}
    if spec is None:
        raise CheckpointError(
            f"{checkpoint} carries no text embeddings of the words to evaluate in",
            f"Give --labelset, and --text with a text bank or a text tower of {info.identity}",
        )
    return open_vocabulary(spec, info.identity), asdict(spec)


def _words(recipe: Recipe | None, labelset: str, text: str, key: str | None) -> VocabularySpec | None:
    known = recipe.vocabulary if recipe else None
    if known is None:
        return VocabularySpec(labelset, text, key) if labelset and text else None
    known = replace(known, labelset=labelset) if labelset else known
    return replace(known, text=text, key=key) if text else known


def _teacher(spec: TeacherSpec, device: str) -> ImageTeacher:
    encoder = load_encoder(spec.model, spec.pretrained, device, spec.precision)
    return ImageTeacher(encoder, spec, cache_dir() / "teacher")
