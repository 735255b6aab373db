"""Voxel keys: floor, packing there and back, order, limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ov3d_perception.errors import PointCloudError
from ov3d_perception.geometry.voxels import HALF, pack, unpack, voxel_centres, voxel_coordinates, voxel_keys

coordinates = arrays(np.int64, st.tuples(st.integers(0, 30), st.just(3)), elements=st.integers(-HALF, HALF - 1))


def test_floor_not_truncation():
    xyz = np.array([[-0.05, 0.05, 0.1], [-0.1, 0.0, 0.299]], np.float32)
    np.testing.assert_array_equal(voxel_coordinates(xyz, 0.1), [[-1, 0, 1], [-2, 0, 2]])


@given(coordinates)
def test_unpack_undoes_pack(values):
    np.testing.assert_array_equal(unpack(pack(values)), values)


@given(coordinates)
def test_keys_sort_like_coordinates(values):
    np.testing.assert_array_equal(values[np.argsort(pack(values), kind="stable")], values[np.lexsort(values.T[::-1])])


def test_points_lie_within_half_a_voxel_of_their_centre():
    xyz = np.random.default_rng(0).uniform(-80, 80, (1000, 3))
    assert np.abs(voxel_centres(voxel_keys(xyz, 0.2), 0.2) - xyz).max() <= 0.1 + 1e-9


@pytest.mark.parametrize("value", [HALF, -HALF - 1])
def test_far_outliers_are_refused_by_name(value):
    with pytest.raises(PointCloudError, match="Remove outliers"):
        pack(np.array([[0, 0, value]]))
