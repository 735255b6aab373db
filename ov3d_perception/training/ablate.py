"""Ablations: the rows of a paper's table, as changes of one recipe, over seeds; mean and spread, JSON and Markdown.

A table is a YAML file (``config/train/*_tables.yaml``): ``rows`` by name, each with ``set`` (fields of the recipe),
``group`` and ``paper`` (figures to compare the order with); ``finetune: true`` fine-tunes each row on each of the
recipe's splits and reports that instead. ``pretrain: false`` in a row starts from random weights.
"""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ov3d_perception.errors import CheckpointError, DatasetError
from ov3d_perception.training.distill import distill
from ov3d_perception.training.evaluate import STUDENT_ALL, STUDENT_IN_VIEW, TEACHER_IN_VIEW
from ov3d_perception.training.finetune import finetune
from ov3d_perception.training.recipe import Recipe, changed, split_of

log = logging.getLogger(__name__)

MODES = {"in view": STUDENT_IN_VIEW, "all points": STUDENT_ALL, "teacher, in view": TEACHER_IN_VIEW}


@dataclass(frozen=True)
class Row:
    """group: what the row ablates; set: the recipe's fields; paper: its mIoU in the paper, percent, by column."""

    name: str
    group: str = ""
    set: dict[str, Any] = field(default_factory=dict)
    pretrain: bool = True
    paper: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """title: what it repeats; finetune: whether rows are fine-tuned on the recipe's splits."""

    title: str
    rows: tuple[Row, ...]
    finetune: bool = False


def load_table(path: Path, name: str) -> Table:
    """Table ``name`` of a file. Raises DatasetError where there is none or a row has an unknown field."""
    if not path.is_file():
        raise DatasetError(f"There is no file of tables {path}", "Give one such as config/train/clip2scene_tables.yaml")
    tables = yaml.safe_load(path.read_text())
    if name not in tables:
        raise DatasetError(f"{path} has no table {name!r}", f"It has {', '.join(tables)}")
    data = tables[name]
    try:
        rows = tuple(Row(name=str(row), **(about or {})) for row, about in data["rows"].items())
        return Table(data["title"], rows, bool(data.get("finetune", False)))
    except (TypeError, KeyError, AttributeError) as error:
        raise DatasetError(f"Table {name!r} of {path} is wrong: {error!r}", "See the shipped tables") from error


def ablate(
    recipe: Recipe,
    table: Table,
    out: Path,
    seeds: Sequence[int],
    rows: Sequence[str] = (),
    splits: Sequence[str] = (),
    device: str = "auto",
) -> dict[str, Any]:
    """Run the table's rows for each seed, and write ``<out>/ablation.{json,md}`` after each run.

    A run that is done is not repeated, one that was interrupted goes on, and rows of the same settings share a run.
    rows, splits: names of the rows to run and of the recipe's splits to fine-tune them on; all by default.

    Raises DatasetError for an unknown row or split.
    """
    for split in splits:
        split_of(recipe, split)
    labelled = tuple(splits or recipe.finetune.splits) if table.finetune else ()
    if table.finetune and not labelled:
        raise DatasetError("The recipe has no split to fine-tune on", "Give it finetune.splits")
    if unknown := set(rows) - {row.name for row in table.rows}:
        raise DatasetError(f"The table has no row {sorted(unknown)}", f"It has {', '.join(r.name for r in table.rows)}")
    chosen = [row for row in table.rows if not rows or row.name in rows]
    found: dict[str, dict[str, list[float]]] = {row.name: {} for row in chosen}
    summary = summarise(table, chosen, found, seeds)
    for seed in seeds:
        for row in chosen:
            log.info("Row %r, seed %d", row.name, seed)
            for column, score in _run(recipe, row, labelled, out, seed, device).items():
                found[row.name].setdefault(column, []).append(score)
            gc.collect()  # trainer, module and encoder hold one another; they took 3.6 GB after six runs
            summary = summarise(table, chosen, found, seeds)
            out.mkdir(parents=True, exist_ok=True)
            (out / "ablation.json").write_text(json.dumps({**summary, "recipe": recipe.to_dict()}, indent=2))
            (out / "ablation.md").write_text(to_markdown(summary))
    return summary


def summarise(
    table: Table, rows: Sequence[Row], found: dict[str, dict[str, list[float]]], seeds: Sequence[int]
) -> dict[str, Any]:
    """Mean, standard deviation over seeds (n - 1) and values of each row and column, with the paper's."""
    figures = {
        row.name: {
            column: {
                "mean": statistics.fmean(values),
                "std": statistics.stdev(values) if len(values) > 1 else None,
                "values": values,
                "paper": row.paper.get(column),
            }
            for column, values in found[row.name].items()
        }
        for row in rows
    }
    groups = {row.name: row.group for row in rows}
    return {"title": table.title, "seeds": list(seeds), "groups": groups, "rows": figures}


def to_markdown(summary: dict[str, Any]) -> str:
    """One line a row: mIoU in percent, mean ± standard deviation, and the paper's figure in brackets."""
    columns = list(dict.fromkeys(column for figures in summary["rows"].values() for column in figures))
    lines = [f"{summary['title']}; mIoU (%), seeds {', '.join(map(str, summary['seeds']))}, paper in brackets", ""]
    lines += [f"| | row | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    for name, figures in summary["rows"].items():
        cells = [_cell(figures.get(column)) for column in columns]
        lines.append(f"| {summary['groups'][name]} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return ""
    spread = "" if figure["std"] is None else f" ± {100 * figure['std']:.1f}"
    paper = "" if figure["paper"] is None else f" ({figure['paper']})"
    return f"{100 * figure['mean']:.1f}{spread}{paper}"


def _run(recipe: Recipe, row: Row, splits: Sequence[str], out: Path, seed: int, device: str) -> dict[str, float]:
    """mIoU by column: of the annotation-free evaluation, or by the split that the row was fine-tuned on, if any."""
    settings = {**row.set, "seed": seed}
    tuned = changed(recipe, settings)
    folder = out / "runs" / hashlib.blake2b(json.dumps(tuned.to_dict()).encode(), digest_size=6).hexdigest()
    if row.pretrain and not _done(folder):
        distill(tuned, folder, resume=True, device=device)
    if not splits:
        return _scores(folder, MODES)
    init = folder / "student.safetensors" if row.pretrain else None
    found = {}
    for split in splits:
        place = (folder if row.pretrain else out / "runs" / f"random-{seed}") / f"finetune {split}".replace(" ", "_")
        if not _done(place):
            finetune(tuned, place, split, init, resume=True, device=device)
        found[split] = _scores(place, {split: STUDENT_ALL})[split]
    return found


def _done(folder: Path) -> bool:
    return (folder / "evaluation.json").is_file()


def _scores(folder: Path, columns: dict[str, str]) -> dict[str, float]:
    modes = json.loads((folder / "evaluation.json").read_text())["modes"]
    if STUDENT_ALL not in modes:
        raise CheckpointError(f"{folder} was not evaluated", "Give the recipe a validation source and a vocabulary")
    return {column: modes[mode]["miou"] for column, mode in columns.items() if mode in modes}
