"""Frames that will be asked for are read once before, in a process beside: simulated streets are made by the first who
reads them, and kept on disk.

    python -m ov3d_perception.learning.ahead < PASSAGES

The process gives way to all others, and ends when its standard input does: with the process that began it, whatever
ends that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from threading import Thread

from ov3d_perception.errors import Ov3dError
from ov3d_perception.lifting.sources import open_source
from ov3d_perception.recipes.specs import SourceSpec

Passage = tuple[SourceSpec, Sequence[int]]
"""A source, and which of its frames; those are read from the last to the first."""


@contextmanager
def reading(passages: Sequence[Passage]) -> Iterator[None]:
    """Read the passages in a process beside the block, on another core, if there is one; it ends with the block.

    From the last frame to the first, so that it meets who reads from the first on. What it cannot read is left to who
    asks for it, and so are errors.
    """
    if not passages or len(os.sched_getaffinity(0)) < 2:
        yield
        return
    order = json.dumps([[asdict(spec), list(indices)] for spec, indices in passages])
    child = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdin is not None
    with suppress(OSError):
        child.stdin.write(order + "\n")
        child.stdin.flush()
    try:
        yield
    finally:
        with suppress(OSError):
            child.stdin.close()
        child.kill()
        child.wait()


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """What the process beside does."""
    order = json.loads(sys.stdin.readline())
    Thread(target=_end_with_input, daemon=True).start()
    os.nice(10)
    for spec, indices in order:
        with suppress(Ov3dError):
            frames = open_source(SourceSpec(**spec))
            for index in reversed(indices):
                frames[index]


if __name__ == "__main__":
    main()
