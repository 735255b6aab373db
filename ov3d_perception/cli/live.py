"""Commands that start the nodes or talk to running ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ov3d_perception.cli.common import LIVE, Limit, Nearest, Negatives, Settings, Words, finish, timeout


def register(app: typer.Typer) -> None:
    """Add the commands to ``ov3d``."""
    app.command(rich_help_panel=LIVE, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(up)
    for command in (query, approach, vocabulary, view, demo):
        app.command(rich_help_panel=LIVE)(command)


def up(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="lidar (lidar_node, map_node), navigation, learn, or one node")] = "lidar",
    settings: Settings = None,
) -> None:
    """Start the nodes of a launch file where `ros2 launch` does not exist; `name:=value` or --set name=value sets."""
    from ov3d_perception.ros.tools.up import up as start

    given = [":=".join(setting.split("=", 1)) for setting in settings or []]
    raise typer.Exit(start(name, [*context.args, *given]))


def query(
    words: Words,
    negative: Negatives = None,
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Probability of a voxel that is sure; 0: the node's default")
    ] = 0.0,
    limit: Limit = 10,
    nearest: Nearest = False,
    position: Annotated[
        tuple[float, float, float], typer.Option(help="Where distances are measured from, m in --frame")
    ] = (0.0, 0.0, 0.0),
    frame: Annotated[str, typer.Option(help="base_link: from the robot; empty: the map's frame")] = "",
    timeout: Annotated[float, timeout("the map node")] = 10.0,
) -> None:
    """Ask the running map: where is a ...?"""
    from ov3d_perception.ros.tools.client import ask, describe

    answer = ask(
        words, negative or [], threshold, limit, timeout, nearest=nearest, position=position, position_frame=frame
    )
    print(describe(answer))
    raise typer.Exit(0 if answer.matches else 1)


def approach(
    words: Words,
    stand_off: Annotated[float, typer.Option(min=0.0, help="Metres kept from it; 0: the node's default")] = 0.0,
    robot_radius: Annotated[float, typer.Option(min=0.0, help="Metres; 0: the node's default")] = 0.0,
    timeout: Annotated[float, timeout("the map node")] = 30.0,
) -> None:
    """Where to stand in front of the best match: a goal for Nav2."""
    from ov3d_perception.ros.tools.client import approach as ask
    from ov3d_perception.ros.tools.client import describe_approach

    answer = ask(words, stand_off, robot_radius, timeout)
    print(describe_approach(answer))
    raise typer.Exit(0 if answer.status == answer.OK else 1)


def vocabulary(
    words: Annotated[list[str], typer.Argument(help="The classes to label with from the next scan on")],
    timeout: Annotated[float, timeout("the LiDAR node")] = 10.0,
) -> None:
    """Change the words that the running LiDAR node labels with."""
    from ov3d_perception.ros.tools.client import set_vocabulary

    finish(set_vocabulary(words, timeout=timeout))


def view(
    save: Annotated[Path | None, typer.Option(help="Write an .rrd instead of opening the viewer")] = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="Stop after that long; 0: at Ctrl-C")] = 0.0,
) -> None:
    """Show the running nodes in Rerun: labelled scans, the map, the mask; type words to see where they are."""
    from ov3d_perception.ros.tools.view import view as show_live

    raise typer.Exit(show_live(save, seconds))


def demo(
    out: Annotated[Path, typer.Option(help="Where pictures, bag and scores go")] = Path("out/demo"),
    seed: Annotated[int, typer.Option(min=0, help="Which simulated world; below 2000 were used in training")] = 2002,
    seconds: Annotated[float, typer.Option(min=0.0, help="Length of the drive")] = 12.0,
    rate: Annotated[
        float, typer.Option(min=0.001, help="Of the live drive; below 1 a slow machine labels more scans")
    ] = 1.0,
) -> None:
    """Simulate a drive, label it live in separate ROS 2 processes, ask the map in words, score and draw it all."""
    from ov3d_perception.ros.tools.demo import run_demo

    raise typer.Exit(run_demo(out, seed, seconds, rate))
