"""``ov3d doctor``: what is wrong with a recording, or with what the robot sends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ov3d_perception.cli.common import FILES, Settings

if TYPE_CHECKING:
    from ov3d_perception.doctor.report import Finding
    from ov3d_perception.types import Frame


def register(app: typer.Typer) -> None:
    """Add the command to ``ov3d``."""
    app.command(rich_help_panel=FILES)(doctor)


def doctor(
    bag: Annotated[Path | None, typer.Argument(help="Bag folder or file; with --dataset its folder")] = None,
    live: Annotated[bool, typer.Option("--live", help="Listen to the running robot instead")] = False,
    seconds: Annotated[float, typer.Option(min=0.0, help="With --live: how long")] = 10.0,
    points: Annotated[str, typer.Option(help="The LiDAR's topic; default: /points, or the only one")] = "",
    camera: Annotated[list[str] | None, typer.Option(help="Namespaces or image topics; default: all")] = None,
    fixed_frame: Annotated[str, typer.Option(help="The frame in which the robot moves")] = "odom",
    tf: Annotated[Path | None, typer.Option(help="A bag of more TF, of `ov3d bag odometry`")] = None,
    frames: Annotated[int, typer.Option(min=0, help="Scans that the calibration is measured on; 0: none")] = 40,
    dataset: Annotated[str, typer.Option(help="No bag: a name of docs/datasets.md")] = "",
    option: Annotated[list[str] | None, typer.Option("--option", "-o", help="Data set option, name=value")] = None,
    recipe: Annotated[Path | None, typer.Option(help="Ask its teacher, too: of how much is it sure?")] = None,
    settings: Settings = None,
    json: Annotated[bool, typer.Option("--json", help="For scripts")] = False,
) -> None:
    """Which part of a recording, or of the running robot, is to blame: found, why it matters, what to do.

    --set changes the recipe: section.field=value. Exit status: 0 nothing is wrong, 1 warnings, 3 errors; 2 where the
    command itself could not run.
    """
    from ov3d_perception.doctor.examine import Examination, examine

    if (bag is None) != live:
        raise typer.BadParameter("Name a bag, or give --live")
    if live and (dataset or recipe):
        raise typer.BadParameter("--dataset and --recipe are about what was recorded")
    if settings and recipe is None:
        raise typer.BadParameter("--set changes a recipe: give --recipe")
    if (option or []) and not dataset:
        raise typer.BadParameter("--option is of a --dataset")
    how = Examination(points, tuple(camera or ()), fixed_frame, tf, frames)
    also = None if recipe is None else _Teacher(recipe, settings or [])
    if bag is None:
        from ov3d_perception.ros.tools.doctor import examine_live

        report = examine_live(how, seconds)
    elif dataset:
        from ov3d_perception.datasets.registry import open_dataset, parse_options
        from ov3d_perception.doctor.dataset import examine_dataset

        source = open_dataset(dataset, bag, **parse_options(option or []))
        report = examine_dataset(source, str(bag), frames, also)
    else:
        report = examine(bag, how, also)
    print(report.to_json() if json else report)
    raise typer.Exit(report.exit_code)


class _Teacher:
    """Asks the teacher of a recipe."""

    def __init__(self, recipe: Path, settings: list[str]) -> None:
        from ov3d_perception.recipes.load import load_recipe

        self.recipe = load_recipe(recipe, settings)

    def __call__(self, source: Sequence[Frame]) -> Iterable[Finding]:
        from ov3d_perception.learning.sureness import check_teacher

        yield check_teacher(source, self.recipe)
