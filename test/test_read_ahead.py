"""Items made in a thread beside come as they would without, errors too."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from ov3d_perception.read_ahead import read_ahead


def test_items_come_in_order_and_are_made_beside() -> None:
    makers = set()

    def items() -> Iterator[int]:
        for number in range(20):
            makers.add(threading.get_ident())
            yield number

    assert list(read_ahead(items())) == list(range(20))
    assert len(makers) == 1 and threading.get_ident() not in makers


def test_the_next_ones_are_made_before_they_are_asked_for_and_no_more() -> None:
    made, third = [], threading.Event()

    def items() -> Iterator[int]:
        for number in range(20):
            made.append(number)
            if number == 2:
                third.set()
            yield number

    found = read_ahead(items())
    assert next(found) == 0
    assert third.wait(10)
    found.close()
    assert made == [0, 1, 2]


def test_an_error_comes_where_it_belongs() -> None:
    def items() -> Iterator[int]:
        yield from (0, 1, 2)
        raise ValueError("cut short")

    seen = []
    with pytest.raises(ValueError, match="cut short"):
        for item in read_ahead(items()):
            seen.append(item)
    assert seen == [0, 1, 2]


def test_nothing_comes_of_nothing() -> None:
    assert list(read_ahead([])) == []
