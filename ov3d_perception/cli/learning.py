"""``ov3d learn``: a site's bags in, a better network of the site out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from ov3d_perception.cli.common import TRAINING, Entered, Settings


def register(app: typer.Typer) -> None:
    """Add the command to ``ov3d``."""
    app.command(rich_help_panel=TRAINING)(learn)


def learn(
    site: Annotated[Path, typer.Argument(help="The site's folder; made if it is not there")],
    bag: Annotated[list[Path], typer.Option(help="The new recording; older ones may follow")],
    hours: Annotated[float, typer.Option(min=0.01, help="Time that the whole run may take")] = 8.0,
    disk: Annotated[float, typer.Option(min=0.1, help="Space for the teacher's features, GB")] = 20.0,
    frames: Annotated[
        int,
        typer.Option(
            min=10,
            help="At least so many scans of a bag teach, where it has them: each n-th, so fewer than twice as many",
        ),
    ] = 200,
    replay: Annotated[int, typer.Option(min=0, help="Most scans that the site remembers from bag to bag")] = 100,
    method: Annotated[str, typer.Option(help="openscene, or ggsd for its two phases")] = "openscene",
    began: Annotated[str, typer.Option(help="What a new site begins with; default: the network shipped")] = "",
    labelset: Annotated[str, typer.Option(help="Of labels in the bags, for figures; none are trained on")] = "",
    settings: Settings = None,
    recipe: Annotated[list[str] | None, typer.Option("--recipe", help="section.field=value of the recipe")] = None,
    live: Annotated[bool, typer.Option(help="Load an accepted network into the running lidar_node")] = False,
    shadow: Annotated[int, typer.Option(min=0, help="With --live: compare on so many live scans first")] = 0,
    nice: Annotated[int, typer.Option(min=0, max=19, help="How far it gives way to other programs")] = 10,
    trust: Annotated[bool, typer.Option(help="Learn although `ov3d doctor` finds errors in a bag")] = False,
    again: Annotated[bool, typer.Option(help="Begin anew where the same order was done before")] = False,
) -> None:
    """Learn a site overnight: check bags, train on from the running network, compare, and accept or refuse.

    Goes on where it was killed. --set says how bags are read (points=/velodyne_points, fixed_frame=map, ...).
    """
    from ov3d_perception.priority import work_behind

    if Entered.as_process:
        work_behind(nice)
    from ov3d_perception.datasets.registry import parse_options
    from ov3d_perception.learning.learn import learn as run
    from ov3d_perception.learning.order import Order
    from ov3d_perception.ledger import ACCEPTED

    order = Order(
        site,
        tuple(bag),
        began,
        parse_options(settings or []),
        tuple(recipe or ()),
        hours,
        disk,
        frames,
        replay,
        method,
        labelset,
        trust,
    )
    outcome = run(order, again=again)
    print(f"{outcome.verdict.verdict.upper()}: network {outcome.number} of {site}")
    for reason in outcome.verdict.reasons:
        print(f"  {reason}")
    print(f"Report: {outcome.report / 'report.html'}")
    if outcome.verdict.verdict != ACCEPTED:
        print(f"It is not in force. To use it all the same: ov3d site use {site} {outcome.number}")
        raise typer.Exit(1)
    if live:
        _hand_over(site, shadow)


def _hand_over(site: Path, shadow: int) -> None:
    """Into the running node; where that refuses, the site goes back, too.

    By a command in a session of its own: who talks to nodes at a low priority costs them scans.
    """
    from ov3d_perception.ledger import Site

    command = [sys.executable, "-m", "ov3d_perception.cli", "checkpoint", "load", str(site), "--shadow", str(shadow)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, start_new_session=True, check=False)
    print(said := done.stdout.strip())
    if done.returncode:
        print(Site(site).roll_back(f"the node refused it: {said or 'see the log'}").to_text())
        raise typer.Exit(1)
