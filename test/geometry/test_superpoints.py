"""Superpoints of surfaces made by hand, and what holds for those of any cloud."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_data import data_dir
from scipy.sparse.csgraph import connected_components

from ov3d_perception.datasets.semantickitti import SemanticKitti
from ov3d_perception.geometry.superpoints import Vccs, compress, superpoints
from ov3d_perception.geometry.voxel_graph import adjacency_of
from ov3d_perception.geometry.voxels import voxel_keys
from ov3d_perception.types import UNLABELLED

PLAIN = Vccs(near=None)


def plane(size: float = 2.0, gap: float = 0.05) -> np.ndarray:
    """A square in z = 0.05 with one corner at the origin."""
    x, y = np.meshgrid(np.arange(gap / 2, size, gap), np.arange(gap / 2, size, gap))
    return np.stack([x.ravel(), y.ravel(), np.full(x.size, 0.05)], 1).astype(np.float32)


def grey(xyz: np.ndarray, level: float = 0.5) -> np.ndarray:
    return np.full((len(xyz), 1), level, np.float32)


def test_a_plane_falls_into_one_superpoint_a_seed() -> None:
    """Two metres by two with seeds half a metre apart: sixteen, each about as large."""
    xyz = plane()
    found = superpoints(xyz, grey(xyz), PLAIN)
    size = np.bincount(found)
    assert len(size) == 16 and size.min() > 0.5 * len(xyz) / 16 and size.max() < 2 * len(xyz) / 16


def test_a_change_of_colour_is_a_border() -> None:
    """The border lies on a voxel's edge inside the cells of the seeds; nothing but colour tells the two sides apart."""
    xyz = plane()
    right = xyz[:, 0] > 1.2
    found = superpoints(xyz, right[:, None].astype(np.float32), Vccs(near=None, colour=20.0))
    assert not np.intersect1d(found[right], found[~right]).size
    mixed = superpoints(xyz, right[:, None].astype(np.float32), Vccs(near=None, colour=0.0))
    assert np.intersect1d(mixed[right], mixed[~right]).size


def test_three_colours_are_three() -> None:
    """Two colours that differ in the third channel alone."""
    xyz = plane()
    colour = np.zeros((len(xyz), 3), np.float32)
    right = xyz[:, 0] > 1.2
    colour[right, 2] = 1.0
    found = superpoints(xyz, colour, Vccs(near=None, colour=20.0))
    assert not np.intersect1d(found[right], found[~right]).size


def test_a_bend_is_a_border_where_normals_count() -> None:
    """Floor and wall touch. Voxels within two of the bend see both; beyond them no superpoint goes round it."""
    floor = plane()
    wall = floor[:, [2, 1, 0]] + np.float32((1.975, 0.0, 0.05))
    xyz = np.concatenate([floor, wall])
    from_bend = np.concatenate([2.0 - floor[:, 0], wall[:, 2] - 0.05])
    clear = from_bend > 0.35
    is_wall = np.arange(len(xyz)) >= len(floor)

    def shared(normal: float) -> int:
        found = superpoints(xyz, grey(xyz), Vccs(near=None, normal=normal, seed=1.1))
        return np.intersect1d(found[clear & is_wall], found[clear & ~is_wall]).size

    assert shared(5.0) == 0 and shared(0.0) > 0


def test_things_that_do_not_touch_share_none_and_small_ones_have_their_own() -> None:
    """A second plane above, a lone point beside: no seed is kept in the lone point's cell."""
    low = plane()
    xyz = np.concatenate([low, low + np.float32((0, 0, 0.4)), np.float32([[5.05, 5.05, 5.05]])])
    found = superpoints(xyz, grey(xyz), PLAIN)
    parts = np.split(found, [len(low), 2 * len(low)])
    assert not np.intersect1d(parts[0], parts[1]).size
    assert (found == parts[2]).sum() == 1


def test_range_draws_points_together() -> None:
    near, e = 5.0, float(np.e)
    xyz = np.array([(0, 0, 0), (0, 3, 4), (3, 0, 0), (5 * e, 0, 0), (0, 0, -5 * e * e)], np.float32)
    expected = [(0, 0, 0), (0, 3, 4), (3, 0, 0), (10, 0, 0), (0, 0, -15)]
    np.testing.assert_allclose(compress(xyz, near), expected, rtol=1e-6)


def test_superpoints_grow_with_range() -> None:
    """A wall of four metres, seeds half a metre apart: eight or nine cells of them wide at four metres, and at forty,
    where it is drawn to (1 + log 10) / 10 of its size, three or four."""
    wall = plane(4.0)[:, [2, 0, 1]] - np.float32((0, 2, 2))
    near, far = (
        superpoints(wall + np.float32((distance, 0, 0)), grey(wall), Vccs(near=4.0)).max() + 1
        for distance in (4.0, 40.0)
    )
    assert 60 <= near <= 81 and 9 <= far <= 16


def test_no_point_has_no_superpoint() -> None:
    assert superpoints(np.zeros((0, 3), np.float32), np.zeros((0, 1), np.float32)).shape == (0,)
    assert superpoints(np.ones((1, 3), np.float32), np.ones((1, 1), np.float32)).tolist() == [0]


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 600), st.sampled_from([None, 3.0]))
def test_of_any_cloud_they_are_whole_numbered_and_do_not_depend_on_the_order(
    seed: int, count: int, near: float | None
) -> None:
    rng = np.random.default_rng(seed)
    xyz = (rng.integers(0, 3, (count, 1)) * 4 + rng.normal(0, 0.5, (count, 3))).astype(np.float32)
    colour, options = rng.random((count, 1)).astype(np.float32), Vccs(voxel=0.2, seed=0.6, near=near)
    found = superpoints(xyz, colour, options)
    assert np.unique(found).tolist() == list(range(found.max() + 1))

    place = xyz if near is None else compress(xyz, near)
    keys, voxel = np.unique(voxel_keys(place, 0.2), return_inverse=True)
    owner = np.full(len(keys), -1)
    owner[voxel] = found
    assert (owner[voxel] == found).all()  # the points of a voxel are together
    adjacency = adjacency_of(keys)
    inside = adjacency.without(owner[adjacency.row] != owner[adjacency.neighbour])
    assert connected_components(inside.matrix)[0] == found.max() + 1

    order = rng.permutation(count)
    shuffled = superpoints(xyz[order], colour[order], options)
    assert len(np.unique(np.stack([found[order], shuffled]), axis=1).T) == found.max() + 1 == shuffled.max() + 1


def test_superpoints_of_a_real_scan_keep_to_its_classes() -> None:
    """PCL's VCCS has a purity of 0.954 with 3761 superpoints (voxels 0.2 m, seeds 1 m)."""
    data = data_dir()
    if data is None:
        pytest.skip("no real data: set OV3D_TEST_DATA or put it in ../shared/data")
    frame = SemanticKitti(data / "semantickitti", ["00"], images=False)[0]
    assert frame.labels is not None
    scan, known = frame.sweeps[0].scan, frame.labels != UNLABELLED
    found = superpoints(scan.xyz, scan.intensity[:, None])
    votes = np.zeros((found.max() + 1, 19))
    np.add.at(votes, (found[known], frame.labels[known]), 1)
    assert len(votes) < 3000 and votes.max(1).sum() / votes.sum() > 0.96
