"""Commands by their former names: for one release they work and name the new spelling. Then delete this file."""

from __future__ import annotations

import sys
from collections.abc import Sequence

FORMER = {
    ("show",): ("checkpoint", "info"),
    ("import-checkpoint",): ("checkpoint", "import"),
    ("bank", "show"): ("bank", "info"),
    ("distill",): ("train",),
    ("train", "clip2scene"): ("train",),
    ("ablate", "clip2scene"): ("ablate",),
}


def renewed(arguments: Sequence[str]) -> list[str]:
    """The command line in today's spelling; a line on standard error says so where it was another."""
    for before, now in FORMER.items():
        if tuple(arguments[: len(before)]) == before:
            spelt = f"`ov3d {' '.join(before)}` is now `ov3d {' '.join(now)}`"
            print(f"ov3d: {spelt}; the next release knows the new name only", file=sys.stderr)
            return [*now, *arguments[len(before) :]]
    return list(arguments)
