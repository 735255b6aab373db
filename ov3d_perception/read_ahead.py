"""Things that take long to read are read in a thread beside, while the ones before are worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_MOST = 2  # that wait


def read_ahead(items: Iterable[T]) -> Iterator[T]:
    """The items, each made while the caller works on those before; an exception comes where it belongs.

    items: none is None. They are made in another thread, one after the other, so what they come from must be that
    thread's own.
    """
    with ThreadPoolExecutor(1) as beside:
        source = iter(items)
        waiting = deque(beside.submit(next, source, None) for _ in range(_MOST))
        while (item := waiting.popleft().result()) is not None:
            waiting.append(beside.submit(next, source, None))
            yield item
