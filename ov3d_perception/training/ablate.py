"""Ablations: the rows of a paper's table, as changes of one recipe, over seeds; mean and spread, JSON and Markdown.

A table is a YAML file (``config/train/*_tables.yaml``): ``rows`` by name, each with ``set`` (fields of the recipe),
``group`` and ``paper`` (figures to compare the order with); ``finetune: true`` fine-tunes each row on each of the
recipe's splits and reports that instead. ``pretrain: false`` in a row starts from random weights.

A recipe with ``folds`` is cross-validated: rows are run on each fold, and a seed's mIoU is that of all folds' points.
"""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from itertools import product, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ov3d_perception.errors import CheckpointError, RecipeError
from ov3d_perception.evaluation.metrics import scores_of
from ov3d_perception.evaluation.score import STUDENT_ALL, STUDENT_IN_VIEW, TEACHER_IN_VIEW
from ov3d_perception.evaluation.tables import Figure, Row, Table, summarise, to_markdown
from ov3d_perception.files import write_text
from ov3d_perception.recipes.load import changed, folds_of, phases_of, split_of
from ov3d_perception.recipes.parse import from_dict
from ov3d_perception.recipes.specs import Recipe
from ov3d_perception.recipes.unused_options import check_options
from ov3d_perception.training.finetune import finetune
from ov3d_perception.training.run import train

log = logging.getLogger(__name__)

MODES = {"in view": STUDENT_IN_VIEW, "all points": STUDENT_ALL, "teacher, in view": TEACHER_IN_VIEW}


Place = tuple[Path, str]
"""A run's folder, and a mode of its evaluation."""


def ablate(
    recipe: Recipe,
    table: Table,
    out: Path,
    seeds: Sequence[int],
    rows: Sequence[str] = (),
    splits: Sequence[str] = (),
    folds: Sequence[str] = (),
    device: str = "auto",
) -> dict[str, Any]:
    """Run the table's rows for each seed, and write ``<out>/ablation.{json,md}`` after each run.

    A run that is done is not repeated, one that was interrupted goes on, rows of the same settings share a run, and
    rows that begin with the same phases share those.
    What is written and returned holds every row of the table of which ``out`` has a seed's runs.
    rows, splits, folds: names of the rows to run, of the recipe's splits to fine-tune them on and of its folds; all by
    default.

    Raises RecipeError for an unknown row, split or fold.
    """
    if unknown := set(rows) - {row.name for row in table.rows}:
        raise RecipeError(f"The table has no row {sorted(unknown)}", f"It has {', '.join(r.name for r in table.rows)}")
    for row in table.rows:
        try:
            check_options(changed(recipe, row.set), row.set)
        except RecipeError as error:
            raise RecipeError(f"Row {row.name!r} of the table: {error.cause}", error.remedy) from error
    parts, labelled = folds_of(recipe, folds), _labelled(recipe, table, splits)
    summary = collect(parts, table, labelled, out, seeds)
    for seed, row in product(seeds, (row for row in table.rows if not rows or row.name in rows)):
        for fold, part in parts.items():
            log.info("Row %r, seed %d%s", row.name, seed, fold and f", fold {fold}")
            _run(part, row, labelled, out, seed, device)
            gc.collect()  # trainer, module and encoder hold one another; they took 3.6 GB after six runs
        summary = collect(parts, table, labelled, out, seeds)
        write_text(out / "ablation.json", json.dumps({**summary, "recipe": recipe.to_dict()}, indent=2))
        write_text(out / "ablation.md", to_markdown(summary))
    return summary


def _labelled(recipe: Recipe, table: Table, splits: Sequence[str]) -> tuple[str, ...]:
    """The splits that rows are fine-tuned on; none for an annotation-free table."""
    for split in splits:
        split_of(recipe, split)
    chosen = tuple(splits or recipe.finetune.splits) if table.finetune else ()
    if table.finetune and not chosen:
        raise RecipeError("The recipe has no split to fine-tune on", "Give it finetune.splits")
    return chosen


def collect(
    parts: dict[str, Recipe], table: Table, splits: Sequence[str], out: Path, seeds: Sequence[int]
) -> dict[str, Any]:
    """The summary of what is done under ``out``: of each row the seeds all of whose folds have been scored."""
    found: dict[str, dict[str, list[Figure]]] = {row.name: {} for row in table.rows}
    for row, seed in product(table.rows, seeds):
        places = [_places(part, row, splits, out, seed) for part in parts.values()]
        for column in places[0]:
            figure = _pooled({fold: place[column] for fold, place in zip(parts, places, strict=True)})
            if figure is not None:
                found[row.name].setdefault(column, []).append(figure)
    return summarise(table, [row for row in table.rows if found[row.name]], found, seeds)


def _run(recipe: Recipe, row: Row, splits: Sequence[str], out: Path, seed: int, device: str) -> None:
    """Run what is not there yet."""
    tuned, folder = _tuned(recipe, row, out, seed)
    if row.pretrain and not _done(folder):
        take_over_phases(tuned, folder)
        train(tuned, folder, resume=True, device=device)
    if not splits:
        return
    init = folder / "student.safetensors" if row.pretrain else None
    for split, (place, _) in _places(recipe, row, splits, out, seed).items():
        if not _done(place):
            finetune(tuned, place, split, init, resume=True, device=device)


def take_over_phases(recipe: Recipe, folder: Path) -> None:
    """Copy into a run's folder, unless it is begun, the first phases that a finished run beside it has in common."""
    if folder.exists():
        return
    mine, best = phases_of(recipe), (0, folder)
    for other in sorted(path.parent for path in folder.parent.glob("*/recipe.yaml") if _done(path.parent)):
        theirs = phases_of(from_dict(yaml.safe_load((other / "recipe.yaml").read_text())))
        alike = takewhile(lambda pair: pair[0] == pair[1], zip(mine, theirs, strict=False))
        common = min(len(list(alike)), len(mine) - 1, len(theirs) - 1)
        best = max(best, (common, other))
    for number in range(1, best[0] + 1):
        copy = folder / f"phase{number}.copy"
        shutil.copytree(best[1] / f"phase{number}", copy)
        copy.rename(folder / f"phase{number}")
        log.info("Phase %d is that of %s", number, best[1].name)


def _places(recipe: Recipe, row: Row, splits: Sequence[str], out: Path, seed: int) -> dict[str, Place]:
    """Where each column's figures are: the modes of the annotation-free evaluation, or the splits of fine-tuning."""
    folder = _tuned(recipe, row, out, seed)[1]
    if not splits:
        return {column: (folder, mode) for column, mode in MODES.items()}
    folder = folder if row.pretrain else folder.with_name(f"random-{folder.name}")
    return {split: (folder / f"finetune {split}".replace(" ", "_"), STUDENT_ALL) for split in splits}


def _tuned(recipe: Recipe, row: Row, out: Path, seed: int) -> tuple[Recipe, Path]:
    """The recipe of a row's run, and its folder."""
    tuned = changed(recipe, {**row.set, "seed": seed})
    return tuned, out / "runs" / hashlib.blake2b(json.dumps(tuned.to_dict()).encode(), digest_size=6).hexdigest()


def _done(folder: Path) -> bool:
    return (folder / "evaluation.json").is_file()


def _pooled(places: dict[str, Place]) -> Figure | None:
    """mIoU over the points of all folds, and of each; None where a run is not done or was not scored in this mode."""
    matrices: dict[str, np.ndarray] = {}
    names: tuple[str, ...] = ()
    for fold, (folder, mode) in places.items():
        if not _done(folder):
            return None
        evaluation = json.loads((folder / "evaluation.json").read_text())
        if STUDENT_ALL not in evaluation["modes"]:
            raise CheckpointError(f"{folder} was not evaluated", "Give the recipe a validation source and a vocabulary")
        if mode not in evaluation["modes"]:
            return None
        matrices[fold], names = np.array(evaluation["confusion"][mode]), tuple(evaluation["classes"])
    each = {fold: scores_of(matrix, names).miou for fold, matrix in matrices.items()}
    return Figure(scores_of(np.sum(list(matrices.values()), axis=0), names).miou, each)
