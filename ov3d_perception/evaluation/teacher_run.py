"""``ov3d teacher``: from a recipe and a file of rows to the table of teachers and their pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from ov3d_perception.errors import RecipeError
from ov3d_perception.evaluation.pixel_pictures import PixelPictures
from ov3d_perception.evaluation.teachers import compare_teachers, teachers_table
from ov3d_perception.files import write_text
from ov3d_perception.language.encoder import load_encoder
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.lifting.sources import open_source, open_vocabulary
from ov3d_perception.paths import cache_dir, shipped
from ov3d_perception.recipes.load import changed
from ov3d_perception.recipes.specs import Recipe, SourceSpec, TeacherSpec

_KEPT = ("model", "pretrained", "precision", "cache_gb")


def compare(
    recipe: Recipe,
    source: SourceSpec | None,
    options: Mapping[str, Any],
    rows: Path | None = None,
    only: Sequence[str] = (),
    out: Path | None = None,
    pictures: int = 0,
) -> str:
    """The table of the recipe's teacher, or of the rows' teachers; written to ``out``, too, if it is given.

    Args:
        recipe: names the encoder, the words, the association, and the source where none is given.
        source: another source of frames, with labels or without.
        options: of the recipe's source, where none is given.
        rows: a YAML file, name: changes of the recipe's ``teacher``, whose looks at the image are taken away first.
        only: names of rows. pictures: how many frames of each teacher to draw into ``out``.

    Raises:
        RecipeError: the rows cannot be read or one is wrong, or the recipe names no words.
        DatasetError: nothing can be read or is in view. EncoderError: a teacher cannot be made.
    """
    if recipe.vocabulary is None:
        raise RecipeError("The recipe names no words to tell apart", "Add a vocabulary: section, or use --set")
    if source is None:
        source = replace(recipe.train, options={**recipe.train.options, **options})
    encoder = load_encoder(recipe.teacher.model, recipe.teacher.pretrained, "auto", recipe.teacher.precision)
    specs = teachers_of(recipe, rows, only) if rows else {recipe.name: recipe.teacher}
    teachers = {name: ImageTeacher(encoder, spec, cache_dir() / "teacher") for name, spec in specs.items()}
    vocabulary = open_vocabulary(recipe.vocabulary, encoder.identity)
    watch = PixelPictures(out / "pictures", vocabulary, pictures) if out and pictures > 0 else None
    found = compare_teachers(open_source(source), teachers, vocabulary, recipe.pairs, watch)
    table = teachers_table(found)
    if out is not None:
        about = {"source": asdict(source), "vocabulary": asdict(recipe.vocabulary), "pairs": asdict(recipe.pairs)}
        figures = {name: {"spec": asdict(specs[name])} | asdict(one) for name, one in found.items()}
        write_text(out / "teachers.json", json.dumps({"about": about, "teachers": figures}, indent=2))
        write_text(out / "teachers.md", table)
    return table


def teachers_of(recipe: Recipe, rows: Path, only: Sequence[str] = ()) -> dict[str, TeacherSpec]:
    """The teacher of each row of a file. Raises RecipeError for a file, a name or a field that is wrong."""
    path = Path(shipped(str(rows)))
    try:
        table = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise RecipeError(f"{path} cannot be read ({error})", "Give a YAML file, name: {field: value}") from error
    if not isinstance(table, dict) or not all(isinstance(row, dict) for row in table.values()):
        raise RecipeError(f"{path} does not hold rows", "Write name: {field: value}")
    if unknown := sorted(set(only) - table.keys()):
        raise RecipeError(f"{path} has no row {unknown}", f"It has {', '.join(table)}")
    bare = {name: getattr(recipe.teacher, name) for name in _KEPT}
    found = {}
    for name, row in table.items():
        if only and name not in only:
            continue
        try:
            found[name] = changed(recipe, {"teacher": bare | row}).teacher
        except RecipeError as error:
            raise RecipeError(f"{path}, {name!r}: {error.cause}", error.remedy) from error
    return found
