"""``ov3d bag``: rosbag2 without a ROS installation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ov3d_perception.cli.common import FILES, duration

group = typer.Typer(no_args_is_help=True, help="Record, play, inspect, repair and make rosbag2 bags.")

BagPath = Annotated[Path, typer.Argument(help="Bag folder or file")]
NewBag = Annotated[Path, typer.Argument(help="The bag to write")]


def register(app: typer.Typer) -> None:
    """Add the group to ``ov3d``."""
    app.add_typer(group, name="bag", rich_help_panel=FILES)


@group.command("info")
def info(path: BagPath) -> None:
    """Topics, counts, rates and length of a bag; of a damaged one, what is readable."""
    from ov3d_perception.bags.info import info as describe

    print(describe(path))


@group.command("repair")
def repair(path: BagPath, out: NewBag) -> None:
    """Copy what is readable of a truncated bag into a new one."""
    from ov3d_perception.bags.salvage import repair as run

    print(run(path, out))


@group.command("from-semantickitti")
def from_semantickitti(
    root: Annotated[Path, typer.Argument(help="Folder that holds `sequences`")],
    sequence: Annotated[str, typer.Argument(help="Two digits, such as 08")],
    out: NewBag,
    jpeg: Annotated[bool, typer.Option(help="Smaller images")] = False,
) -> None:
    """A SemanticKITTI sequence becomes a standard bag with images, camera_info and tf."""
    from ov3d_perception.datasets.semantickitti_bag import from_semantickitti as run

    print(run(root, sequence, out, image_format="jpeg" if jpeg else "png"))


@group.command("odometry")
def odometry(
    path: BagPath,
    out: Annotated[Path | None, typer.Argument(help="The bag to write; none: only measure the drift")] = None,
    points: Annotated[str, typer.Option(help="The LiDAR's topic; default: /points, or the only one")] = "",
    fixed_frame: Annotated[str, typer.Option(help="The frame to move in, which TF lacks")] = "odom",
    max_range: Annotated[float, typer.Option(min=0.1, help="Metres; points beyond are not used")] = 80.0,
    voxel_size: Annotated[
        float, typer.Option(min=0.001, help="Metres, of the odometry's map; 0.3 to 0.5 in buildings")
    ] = 0.7,
) -> None:
    """Poses for a bag without odometry, by KISS-ICP: a small bag of TF, to be given as `tf` or played beside it.

    Without OUT: how far KISS-ICP drifts from the odometry that the bag has.
    """
    from ov3d_perception.odometry.kiss import KissSettings
    from ov3d_perception.odometry.of_bag import drift_of_bag, write_transforms

    settings = KissSettings(max_range=max_range, voxel_size=voxel_size)
    if out is None:
        print(drift_of_bag(path, points or None, fixed_frame, settings))
    else:
        print(write_transforms(path, out, points or None, fixed_frame, settings))


@group.command("play")
def play(
    path: BagPath,
    rate: Annotated[float, typer.Option(min=0.001, help="Speed; 1 is real time")] = 1.0,
    loop: Annotated[bool, typer.Option(help="Start again at the end, with later stamps")] = False,
    seconds: Annotated[float, typer.Option(min=0.0, help="Stop after that long; 0: at the end")] = 0.0,
    topic: Annotated[list[str] | None, typer.Option(help="Only these topics")] = None,
    remap: Annotated[list[str] | None, typer.Option(help="/topic:=/other, as ros2 takes it; several times")] = None,
    clock: Annotated[bool, typer.Option(help="Publish /clock")] = True,
    wait_for: Annotated[list[str] | None, typer.Option(help="Wait until these topics have a subscriber")] = None,
) -> None:
    """Publish a bag's messages."""
    from ov3d_perception.ros.tools.bag_player import play as run
    from ov3d_perception.ros.tools.systems import parse_arguments

    names, wanted = parse_arguments(remap or []), wait_for or []
    raise typer.Exit(run(path, rate, loop, seconds, topic, clock, remap=names, wait_for=wanted))


@group.command("record")
def record(
    out: NewBag,
    topic: Annotated[list[str] | None, typer.Option(help="Topics or patterns; default: what training needs")] = None,
    points: Annotated[str, typer.Option(help="The LiDAR's topic: other clouds are left out; default: all")] = "",
    seconds: Annotated[float, typer.Option(min=0.0, help="Stop after that long; 0: at Ctrl-C")] = 0.0,
    split: Annotated[str, typer.Option(help="Begin another bag, OUT_2, after so long: 10min, 90s, 1h")] = "",
    keep: Annotated[str, typer.Option(help="Keep the last so long only, in several bags: 30min")] = "",
) -> None:
    """Record what training needs: points, images, camera_info, tf, odom. Ctrl-C ends it; the bag is always closed."""
    from ov3d_perception.ros.tools.bag_recorder import record as run

    raise typer.Exit(run(out, topics=topic, seconds=seconds, points=points, split=duration(split), keep=duration(keep)))
