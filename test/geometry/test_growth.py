"""Growth on small graphs by hand, and beside the same search in plain Python."""

from __future__ import annotations

import numpy as np
import pytest

from ov3d_perception.geometry.growth import COLUMNS, grow
from ov3d_perception.geometry.voxel_graph import Adjacency

UP = (0.0, 0.0, 1.0)


def chain(count: int) -> Adjacency:
    """Voxels in a line, each touching the next."""
    lists = [[v for v in (voxel - 1, voxel + 1) if 0 <= v < count] for voxel in range(count)]
    return graph(lists)


def graph(lists: list[list[int]]) -> Adjacency:
    start = np.cumsum([0, *map(len, lists)]).astype(np.int32)
    return Adjacency(start, np.array([v for one in lists for v in one], np.int32))


def features(*places: tuple[float, float], normal: tuple[float, float, float] = UP) -> np.ndarray:
    """One voxel a pair of x and first colour."""
    return np.array([(x, 0, 0, colour, 0, 0, *normal) for x, colour in places], np.float32)


def begin(*voxels: int) -> tuple[np.ndarray, np.ndarray]:
    return np.array(voxels, np.int32), np.arange(len(voxels), dtype=np.int32)


def test_each_voxel_goes_to_the_nearer_end_of_a_line() -> None:
    line = features(*((x, 0.0) for x in range(6)))
    assert grow(chain(6), line, line[[0, 5]], begin(0, 5), 1.0).tolist() == [0, 0, 0, 1, 1, 1]


def test_colour_moves_the_border() -> None:
    """Colours 0 0 5 5 5 5: voxel 2 is at 2 + 25 of the first end and at 9 of the other."""
    line = features(*((x, 5.0 * (x > 1)) for x in range(6)))
    assert grow(chain(6), line, line[[0, 5]], begin(0, 5), 1.0).tolist() == [0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(("weight", "expected"), [(0.0, [0, 0, 1]), (0.39, [0, 0, 1]), (0.41, [0, 1, 1])])
def test_normals_count_by_their_angle_whatever_their_sign(weight: float, expected: list[int]) -> None:
    """Voxel 1 is at distance 0.9 of the first and at 1.1 of the second, whose normal is its own, turned round:
    0.81 + weight * 1 against 1.21."""
    row = features((0.0, 0.0), (0.9, 0.0), (2.0, 0.0))
    row[1:, 6:] = (1, 0, 0), (-1, 0, 0)
    assert grow(chain(3), row, row[[0, 2]], begin(0, 2), weight).tolist() == expected


def test_it_stops_at_the_last_level_and_at_gaps() -> None:
    line = features(*((x, 0.0) for x in range(6)))
    assert grow(chain(6), line, line[:1], begin(0), 1.0, levels=2).tolist() == [0, 0, 0, -1, -1, -1]
    apart = graph([[1], [0], [3], [2]])
    assert grow(apart, line[:4], line[:1], begin(0), 1.0).tolist() == [0, 0, -1, -1]


def test_what_another_takes_flows_on_no_more() -> None:
    """On the first level centre 0 takes voxel 1, then centre 1, nearer, takes it over: voxel 2, which only voxel 1
    touches, is offered to centre 1 alone, though it lies at centre 0."""
    row = features((0.0, 0.0), (1.0, 0.0), (0.0, 0.0), (1.5, 0.0))
    star = graph([[1], [0, 2, 3], [1], [1]])
    assert grow(star, row, row[[0, 3]], begin(0, 3), 1.0).tolist() == [0, 1, 1, 1]


def test_it_is_the_search_in_plain_python() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        count, edges = 60, rng.integers(0, 60, (120, 2))
        lists = [sorted({int(b) for a, b in [*edges, *edges[:, ::-1]] if a == v}) for v in range(count)]
        row = rng.normal(size=(count, COLUMNS)).astype(np.float32)
        row[:, 6:] /= np.linalg.norm(row[:, 6:], axis=1, keepdims=True)
        seeds = rng.choice(count, 6, replace=False).astype(np.int32)
        centres = row[seeds] + 0.1
        for levels in (1, 3, None):
            found = grow(graph(lists), row, centres, (seeds, np.arange(6, dtype=np.int32)), 0.7, levels)
            assert found.tolist() == slow(lists, row, centres, seeds, 0.7, levels)


def slow(
    lists: list[list[int]], row: np.ndarray, centres: np.ndarray, seeds: np.ndarray, normal: float, levels: int | None
) -> list[int]:
    owner, least = [-1] * len(lists), [np.inf] * len(lists)
    level = [(int(seed), number) for number, seed in enumerate(seeds)]
    for seed, number in level:
        owner[seed], least[seed] = number, 0.0
    left = -1 if levels is None else levels
    while level and left != 0:
        after = []
        for voxel, number in level:
            if owner[voxel] != number:
                continue
            for other in lists[voxel]:
                gap = row[other].astype(float) - centres[number]
                bend = 1 - abs(row[other, 6:].astype(float) @ centres[number, 6:])
                distance = (gap[:6] ** 2).sum() + normal * bend**2
                if distance < least[other]:
                    least[other], owner[other] = distance, number
                    after.append((other, number))
        level, left = after, left - 1
    return owner
