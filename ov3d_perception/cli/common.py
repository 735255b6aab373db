"""What several command groups share: panels of the help, options of one spelling, and how a service's answer ends."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

LIVE = "On the running robot"
OFFLINE = "Without a robot"
TRAINING = "Train and measure"
FILES = "Files: bags, maps, words, networks"

Words = Annotated[list[str], typer.Argument(help="What to look for")]
Negatives = Annotated[list[str] | None, typer.Option("--negative", help="What it may be instead")]
Limit = Annotated[int, typer.Option(help="Most matches a word; 0: all")]
Nearest = Annotated[bool, typer.Option(help="Nearest first, not best first")]
Text = Annotated[str, typer.Option(help="Text bank (.npz) or model with a text tower; default: the map's words")]
Background = Annotated[
    str, typer.Option("--vocabulary", help="Label set: classes, and what words compete with; default: the map's")
]
CheckpointPath = Annotated[Path, typer.Argument(help="A .safetensors checkpoint of ours")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="name=value, the value in YAML; several times")]


def timeout(node: str) -> Any:
    """The option for how long a command waits for ``node``."""
    return typer.Option(help=f"Seconds to wait for {node}")


def finish(answer: Any) -> None:
    """Print a service's message; exit status 1 where it says that it failed."""
    print(answer.message)
    raise typer.Exit(0 if answer.success else 1)
