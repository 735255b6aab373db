"""The rows of a paper's table, as changes of a recipe; their figures over seeds or scenes, mean and spread, Markdown.

A table is a YAML file (``config/train/*_tables.yaml``, ``config/field/tables.yaml``): ``rows`` by name, each with
``set`` (fields of the recipe), ``group`` and ``paper`` (figures to compare the order with).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ov3d_perception.errors import RecipeError


@dataclass(frozen=True)
class Figure:
    """A row's figure, in [0, 1], of a seed over all folds' points, or of a scene; folds: of each by itself."""

    value: float
    folds: dict[str, float] = field(default_factory=dict)


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
    """Table ``name`` of a file. Raises RecipeError where there is none or a row has an unknown field."""
    if not path.is_file():
        raise RecipeError(f"There is no file of tables {path}", "Give one such as config/train/clip2scene_tables.yaml")
    tables = yaml.safe_load(path.read_text())
    if name not in tables:
        raise RecipeError(f"{path} has no table {name!r}", f"It has {', '.join(tables)}")
    data = tables[name]
    try:
        rows = tuple(Row(name=str(row), **(about or {})) for row, about in data["rows"].items())
        return Table(data["title"], rows, bool(data.get("finetune", False)))
    except (TypeError, KeyError, AttributeError) as error:
        raise RecipeError(f"Table {name!r} of {path} is wrong: {error!r}", "See the shipped tables") from error


def summarise(
    table: Table,
    rows: Sequence[Row],
    found: dict[str, dict[str, list[Figure]]],
    runs: Sequence[int | str],
    kind: str = "seeds",
) -> dict[str, Any]:
    """Mean, standard deviation over runs (n - 1) and values of each row and column, with the paper's.

    runs: names of the seeds, or of what else ``kind`` says. The summary has them under that key.
    """

    def summary(figures: Sequence[Figure], paper: float | None) -> dict[str, Any]:
        values = [figure.value for figure in figures]
        spread = statistics.stdev(values) if len(values) > 1 else None
        about = {"mean": statistics.fmean(values), "std": spread, "values": values, "paper": paper}
        return about | ({"folds": [figure.folds for figure in figures]} if len(figures[0].folds) > 1 else {})

    figures = {
        row.name: {column: summary(values, row.paper.get(column)) for column, values in found[row.name].items()}
        for row in rows
    }
    groups = {row.name: row.group for row in rows}
    return {"title": table.title, "over": kind, kind: list(runs), "groups": groups, "rows": figures}


def to_markdown(summary: dict[str, Any]) -> str:
    """One line a row: figures in percent, mean ± standard deviation, and the paper's in brackets."""
    kind = summary["over"]
    columns = list(dict.fromkeys(column for figures in summary["rows"].values() for column in figures))
    lines = [f"{summary['title']}; percent, {kind} {', '.join(map(str, summary[kind]))}, paper in brackets", ""]
    lines += [f"| | row | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    for name, figures in summary["rows"].items():
        cells = [_cell(figures.get(column), len(summary[kind]), kind) for column in columns]
        lines.append(f"| {summary['groups'][name]} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(figure: dict[str, Any] | None, runs: int, kind: str) -> str:
    if figure is None:
        return ""
    count = len(figure["values"])
    spread = "" if figure["std"] is None else f" ± {100 * figure['std']:.1f}"
    paper = "" if figure["paper"] is None else f" ({figure['paper']})"
    fewer = "" if count == runs else f", {count} of {runs} {kind}"
    return f"{100 * figure['mean']:.1f}{spread}{paper}{fewer}"
