"""Commands by their former names: for one release they work and name the new spelling. Then delete this file."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, get_type_hints

import typer

from ov3d_perception.cli import bank, checkpoint


def register(app: typer.Typer) -> None:
    """Add the former names, which the help does not list."""
    app.command("show", hidden=True)(renamed(checkpoint.info, "show", "checkpoint info"))
    app.command("import-checkpoint", hidden=True)(renamed(checkpoint.import_, "import-checkpoint", "checkpoint import"))
    bank.group.command("show", hidden=True)(renamed(bank.info, "bank show", "bank info"))


def renamed(command: Callable[..., Any], before: str, now: str) -> Callable[..., Any]:
    """``command`` with a line on standard error that names its new spelling."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        print(f"ov3d: `ov3d {before}` is now `ov3d {now}`; the next release knows the new name only", file=sys.stderr)
        return command(*arguments, **options)

    run.__signature__ = inspect.signature(command, eval_str=True)  # type: ignore[attr-defined]
    run.__annotations__ = get_type_hints(command, include_extras=True)  # as Typer reads them
    return run
