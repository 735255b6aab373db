"""``ov3d doctor``: what is wrong with a bag, or with what the robot sends."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ov3d_perception.cli.common import FILES


def register(app: typer.Typer) -> None:
    """Add the command to ``ov3d``."""
    app.command(rich_help_panel=FILES)(doctor)


def doctor(
    bag: Annotated[Path | None, typer.Argument(help="Bag folder or file")] = None,
    live: Annotated[bool, typer.Option("--live", help="Listen to the running robot instead")] = False,
    seconds: Annotated[float, typer.Option(min=0.0, help="With --live: how long")] = 10.0,
    points: Annotated[str, typer.Option(help="The LiDAR's topic; default: /points, or the only one")] = "",
    camera: Annotated[list[str] | None, typer.Option(help="Namespaces or image topics; default: all")] = None,
    fixed_frame: Annotated[str, typer.Option(help="The frame in which the robot moves")] = "odom",
    tf: Annotated[Path | None, typer.Option(help="A bag of more TF, of `ov3d bag odometry`")] = None,
    frames: Annotated[int, typer.Option(min=0, help="Scans that the calibration is measured on; 0: none")] = 40,
    json: Annotated[bool, typer.Option("--json", help="For scripts")] = False,
) -> None:
    """Which part of a recording, or of the running robot, is to blame: found, why it matters, what to do.

    Exit status: 0 nothing is wrong, 1 warnings, 3 errors; 2 where the command itself could not run.
    """
    from ov3d_perception.doctor.examine import Examination, examine

    if (bag is None) != live:
        raise typer.BadParameter("Name a bag, or give --live")
    how = Examination(points, tuple(camera or ()), fixed_frame, tf, frames)
    if bag is None:
        from ov3d_perception.ros.tools.doctor import examine_live

        report = examine_live(how, seconds)
    else:
        report = examine(bag, how)
    print(report.to_json() if json else report)
    raise typer.Exit(report.exit_code)
