"""Options that take several values, as the shell writes them: ``--not other/*.png``."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class TakesLists(TyperCommand):
    """A command whose option ``--not`` takes all words up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """``--not a b --bank c`` is read as ``--not a --not b --bank c``."""
        spread: list[str] = []
        open_list = False
        for word in args:
            if word.startswith("-") and not word.lstrip("-").replace(".", "", 1).isdigit():
                open_list = word == "--not"
                spread += [] if open_list else [word]
            else:
                spread += ["--not", word] if open_list else [word]
        return super().parse_args(ctx, spread)
