"""What the seconds of this process were spent on, by name: to tell work that matters from what is around it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

NETWORK, TEACHER = "network", "teacher"
_spent: Counter[str] = Counter()


def add(name: str, seconds: float) -> None:
    """Count seconds."""
    _spent[name] += seconds  # type: ignore[assignment]


@contextmanager
def spent_on(name: str) -> Iterator[None]:
    """Count the seconds of the block."""
    start = time.perf_counter()
    try:
        yield
    finally:
        add(name, time.perf_counter() - start)


def spent() -> dict[str, float]:
    """Seconds since the process began."""
    return dict(_spent)
