"""Which voxels touch, and the normals of surfaces, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ov3d_perception.geometry.voxel_graph import Adjacency, adjacency_of, normals
from ov3d_perception.geometry.voxels import pack, unpack


def neighbours(adjacency: Adjacency) -> list[list[int]]:
    return [sorted(part.tolist()) for part in np.split(adjacency.neighbour, adjacency.start[1:-1])]


def test_faces_edges_and_corners_touch_and_nothing_else() -> None:
    cells = np.array([(0, 0, 0), (0, 0, 1), (1, 1, 1), (1, 1, 3), (3, 0, 0)])
    assert neighbours(adjacency_of(pack(cells))) == [[1, 2], [0, 2], [0, 1], [], []]


@given(st.lists(st.tuples(*[st.integers(-3, 3)] * 3), min_size=1, max_size=40, unique=True))
def test_it_is_what_comparing_all_pairs_finds(cells: list[tuple[int, int, int]]) -> None:
    keys = np.sort(pack(np.array(cells)))
    apart = np.abs(unpack(keys)[:, None] - unpack(keys)[None]).max(2)
    expected = [np.flatnonzero(row == 1).tolist() for row in apart]
    adjacency = adjacency_of(keys)
    assert neighbours(adjacency) == expected
    assert adjacency.row.tolist() == [v for v, others in enumerate(expected) for _ in others]


def test_a_graph_without_some_entries() -> None:
    whole = adjacency_of(pack(np.array([(0, 0, 0), (0, 0, 1), (0, 0, 2)])))
    cut = whole.without((whole.row == 1) & (whole.neighbour == 2) | (whole.row == 2))
    assert neighbours(cut) == [[1], [0], []]


def moments(points: np.ndarray, voxel: np.ndarray, count: int) -> np.ndarray:
    x, y, z = points.T
    rows = np.stack([np.ones(len(x)), x, y, z, x * x, x * y, x * z, y * y, y * z, z * z], 1)
    return np.stack([rows[voxel == number].sum(0) for number in range(count)])


@pytest.mark.parametrize("normal", [(0, 0, 1), (1, 0, 0), (0.6, 0, 0.8), (-0.48, 0.64, 0.6)])
def test_the_normal_of_a_plane_far_from_the_origin(normal: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(1)
    axes = np.linalg.svd(np.array([normal]))[2][1:]
    points = rng.uniform(-1, 1, (200, 2)) @ axes + (60.0, -30.0, 2.0)
    voxel = np.arange(200) % 2
    touching = Adjacency(np.array([0, 1, 2], np.int32), np.array([1, 0], np.int32))
    found = normals(moments(points, voxel, 2), touching)
    np.testing.assert_allclose(np.abs(found @ normal), 1.0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-9)


def test_a_line_or_a_point_has_none_and_says_up() -> None:
    points = np.array([(0.0, 0, 0), (0.1, 0.1, 0), (0.2, 0.2, 0), (5.0, 5, 5)])
    alone = Adjacency(np.zeros(3, np.int32), np.zeros(0, np.int32))
    assert normals(moments(points, np.array([0, 0, 0, 1]), 2), alone).tolist() == [[0, 0, 1], [0, 0, 1]]


def test_rings_say_how_far_around_points_count() -> None:
    """Three voxels in a row, each a line along y: one ring around an end makes a plane with the middle, the far end,
    which lies higher, counts from two rings on."""
    y = np.arange(5) / 10
    parts = [np.stack([np.full(5, x), y, np.full(5, z)], 1) for x, z in ((0.0, 0.0), (0.1, 0.0), (0.2, 0.1))]
    sums = moments(np.concatenate(parts), np.repeat([0, 1, 2], 5), 3)
    row = Adjacency(np.array([0, 1, 3, 4], np.int32), np.array([1, 0, 2, 1], np.int32))
    np.testing.assert_allclose(np.abs(normals(sums, row, 1)[0]), (0, 0, 1), atol=1e-9)
    assert abs(normals(sums, row, 2)[0, 2]) < 0.999
