"""Frames of a stream together with those beside them in time; each is read once, and few are held."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from ov3d_perception.types import Frame

Item = TypeVar("Item")


def drive_of(frame: Frame) -> str:
    """The drive that a frame is of: its name before the last "/"."""
    return frame.name.rpartition("/")[0]


def with_neighbours(
    items: Iterable[Item], reach: int, index: Callable[[Item], int], drive: Callable[[Item], str]
) -> Iterator[tuple[Item, list[Item]]]:
    """Each item, and those of the same drive whose indices are within ``reach`` of its own; itself is the first.

    Items come with ascending indices, and go in the same order, up to ``reach`` items later. At most 2 reach + 1 are
    held. An index that is missing (a frame that cannot be read) is no neighbour; no other takes its place.
    """
    held: deque[Item] = deque()  # of one drive: those to go, and those before them that are still near
    gone = 0  # how many of these have gone

    def out() -> tuple[Item, list[Item]]:
        own = held[gone]
        return own, [own, *(item for item in held if item is not own and abs(index(item) - index(own)) <= reach)]

    for item in items:
        same = not held or drive(item) == drive(held[-1])
        while gone < len(held) and (not same or index(item) - index(held[gone]) > reach):
            yield out()
            gone += 1
        if not same:
            held.clear()
            gone = 0
        held.append(item)
        while gone and index(held[gone]) - index(held[0]) > reach:
            held.popleft()
            gone -= 1
    while gone < len(held):
        yield out()
        gone += 1
