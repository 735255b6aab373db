"""What several command groups share: panels of the help, options of one spelling, and how a service's answer ends."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

LIVE = "On the running robot"
OFFLINE = "Without a robot"
TRAINING = "Train and measure"
FILES = "Files: bags, maps, words, networks"

Words = Annotated[list[str], typer.Argument(help="What to look for")]
Negatives = Annotated[list[str] | None, typer.Option("--negative", help="What it may be instead")]
Limit = Annotated[int, typer.Option(min=0, help="Most matches a word; 0: all")]
Nearest = Annotated[bool, typer.Option(help="Nearest first, not best first")]
Text = Annotated[str, typer.Option(help="Text bank (.npz) or model with a text tower; default: the map's words")]
Background = Annotated[
    str, typer.Option("--vocabulary", help="Label set: classes, and what words compete with; default: the map's")
]
CheckpointPath = Annotated[Path, typer.Argument(help="A .safetensors checkpoint of ours")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="name=value, the value in YAML; several times")]


class Entered:
    """How this program was entered. as_process: by the executable ``ov3d``, so that a command may go on in another
    process; else a program calls its commands."""

    as_process = False


def timeout(node: str) -> Any:
    """The option for how long a command waits for ``node``."""
    return typer.Option(min=0.0, help=f"Seconds to wait for {node}")


def duration(text: str) -> float:
    """Seconds of a text such as 90s, 30min, 2h or 90; 0 for "". Raises typer.BadParameter for any other."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h|)", text.strip() or "0")
    if found is None:
        raise typer.BadParameter(f"{text!r} is no duration: write 90s, 30min or 2h")
    return float(found[1]) * {"min": 60.0, "h": 3600.0}.get(found[2], 1.0)


def finish(answer: Any) -> None:
    """Print a service's message; exit status 1 where it says that it failed."""
    print(answer.message)
    raise typer.Exit(0 if answer.success else 1)
