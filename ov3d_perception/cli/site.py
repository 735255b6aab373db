"""``ov3d site``: the networks that a place has learned."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ov3d_perception.cli.common import FILES

group = typer.Typer(no_args_is_help=True, help="The networks that a place has learned, and which one is in force.")
Folder = Annotated[Path, typer.Argument(help="The site's folder, which holds site.yaml")]


def register(app: typer.Typer) -> None:
    """Add the group to ``ov3d``."""
    app.add_typer(group, name="site", rich_help_panel=FILES)


@group.command("show")
def show(
    folder: Folder, figures: Annotated[bool, typer.Option("--figures", help="All that the gate measured")] = False
) -> None:
    """Print the site's networks with their verdicts and reasons, and each change with its reason."""
    from ov3d_perception.ledger import Site

    print(Site(folder).read().to_text(figures))


@group.command("use")
def use(
    folder: Folder,
    number: Annotated[int, typer.Argument(min=0, help="Of the network; 0: the one that the site began with")],
    why: Annotated[str, typer.Option(help="For the ledger")] = "chosen by hand",
) -> None:
    """Put a network in force, whatever the gate said of it; nodes that follow the site load it."""
    from ov3d_perception.ledger import Site

    site = Site(folder)
    site.checkpoint(number)
    print(site.put_in_force(number, why).to_text())


@group.command("rollback")
def rollback(folder: Folder, why: Annotated[str, typer.Option(help="For the ledger")] = "asked for by hand") -> None:
    """Put the network before in force again."""
    from ov3d_perception.ledger import Site

    print(Site(folder).roll_back(why).to_text())
