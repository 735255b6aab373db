"""Sliding windows of frames against the plain definition."""

from hypothesis import given
from hypothesis import strategies as st

from ov3d_perception.lifting.nearby import with_neighbours


@given(st.sets(st.integers(0, 15)), st.integers(0, 4), st.integers(0, 15))
def test_neighbours_are_those_within_reach_in_the_same_drive(numbers, reach, second):
    items = [(number, "a" if number < second else "b") for number in sorted(numbers)]
    found = list(with_neighbours(iter(items), reach, lambda item: item[0], lambda item: item[1]))
    assert [own for own, _ in found] == items
    for own, near in found:
        assert near[0] == own
        assert sorted(near) == [item for item in items if item[1] == own[1] and abs(item[0] - own[0]) <= reach]


def test_an_item_goes_as_soon_as_its_window_is_complete():
    read = []
    stream = with_neighbours((read.append(n) or n for n in range(9)), 2, lambda n: n, lambda n: "a")
    assert next(stream) == (0, [0, 1, 2])
    assert read == [0, 1, 2, 3]
    assert next(stream) == (1, [1, 0, 2, 3])
