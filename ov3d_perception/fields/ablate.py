"""A paper's table over scenes: each row of the table on each scene; mean and spread over the scenes."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from ov3d_perception.errors import DatasetError, RecipeError
from ov3d_perception.evaluation.tables import Figure, Row, Table, summarise, to_markdown
from ov3d_perception.fields.evaluate import evaluate
from ov3d_perception.fields.recipe import FieldRecipe, changed
from ov3d_perception.fields.run import Models, open_models, train
from ov3d_perception.fields.scene import Scene
from ov3d_perception.files import write_text

_log = logging.getLogger(__name__)

TEACHER = "teacher, view by view"
_COLUMNS = {"mIoU": "miou", "mAP": "mean_ap", "PSNR / 100": "psnr"}
_GEOMETRY = ("images", "field", "reconstruction", "seed")


def ablate(
    scenes: Sequence[Scene],
    recipe: FieldRecipe,
    table: Table,
    out: Path,
    rows: Sequence[str] = (),
    models: Models | None = None,
) -> dict[str, Any]:
    """Run the table's rows on each scene, and write ``<out>/ablation.{json,md}`` after each run.

    A run that is done is not repeated, one that was interrupted goes on. Rows of one geometry share a reconstruction
    and the teacher's features. The row without changes has the teacher's own score beside it.
    rows: names of those to run; all where empty. models: of all rows, the recipe's where None.

    Raises RecipeError for an unknown row or one that is no recipe, DatasetError for scenes of one name or without
    masks.
    """
    if unknown := set(rows) - {row.name for row in table.rows}:
        raise RecipeError(f"The table has no row {sorted(unknown)}", f"It has {', '.join(r.name for r in table.rows)}")
    names = [scene.name for scene in scenes]
    if len(set(names)) < len(names):
        raise DatasetError(f"Scenes of one name: {', '.join(names)}", "Rename their folders")
    if bare := [scene.name for scene in scenes if not scene.masks]:
        raise DatasetError(
            f"There are no masks to compare with in {', '.join(bare)}", "Name scenes with segmentations/"
        )
    recipes = {}
    for row in table.rows:
        try:
            recipes[row.name] = changed(recipe, row.set)
        except RecipeError as error:
            raise RecipeError(f"Row {row.name!r} of the table: {error.cause}", error.remedy) from error
    models = models or open_models(recipe)
    summary: dict[str, Any] = {}
    for scene, row in product(scenes, (row for row in table.rows if not rows or row.name in rows)):
        _run(scene, recipes[row.name], out, models, with_teacher=not row.set)
        summary = collect(names, recipes, table, out)
        write_text(out / "ablation.json", json.dumps({**summary, "recipe": recipe.as_dict()}, indent=1))
        write_text(out / "ablation.md", to_markdown(summary))
    return summary


def collect(scenes: Sequence[str], recipes: dict[str, FieldRecipe], table: Table, out: Path) -> dict[str, Any]:
    """The summary of what is done under ``out``."""
    found: dict[str, dict[str, list[Figure]]] = {row.name: {} for row in table.rows}
    for row, scene in product(table.rows, scenes):
        path = _folder(out, scene, recipes[row.name]) / "evaluation.json"
        if not path.is_file():
            continue
        result = json.loads(path.read_text("utf-8"))
        values = {column: result[name] for column, name in _COLUMNS.items()}
        values["PSNR / 100"] /= 100
        if result["teacher_miou"] == result["teacher_miou"]:  # nan where it was not asked
            values[TEACHER] = result["teacher_miou"]
        for column, value in values.items():
            found[row.name].setdefault(column, []).append(Figure(value))
    done: list[Row] = [row for row in table.rows if found[row.name]]
    return summarise(table, done, found, scenes, "scenes")


def _run(scene: Scene, recipe: FieldRecipe, out: Path, models: Models, with_teacher: bool) -> None:
    folder = _folder(out, scene.name, recipe)
    if (folder / "evaluation.json").is_file():
        return
    _log.info("%s: %s", scene.name, folder)
    shared = out / scene.name / _key({name: recipe.as_dict()[name] for name in _GEOMETRY})
    content = train(scene, recipe, folder, models=models, resume=True, shared=shared)
    evaluate(content, scene, models.encoder if with_teacher else None, folder / "pictures").write(folder)


def _folder(out: Path, scene: str, recipe: FieldRecipe) -> Path:
    return out / scene / "runs" / _key(recipe.as_dict())


def _key(settings: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(settings).encode(), digest_size=6).hexdigest()
