"""Transforms against hand-computed values and scipy's Slerp."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from ov3d_perception.errors import TransformError
from ov3d_perception.geometry.poses import (
    from_quaternion,
    from_quaternions,
    interpolate,
    invert,
    rigid,
    to_quaternion,
    transform,
)

QUARTER_LEFT = from_quaternion([1, 2, 3], [0, 0, np.sqrt(0.5), np.sqrt(0.5)])  # x axis turns to y
numbers = st.floats(-100, 100)
quaternions = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1)
poses = st.builds(from_quaternion, st.tuples(numbers, numbers, numbers), quaternions)


def test_a_quarter_turn_by_hand():
    moved = transform(QUARTER_LEFT, np.array([[1.0, 0, 0], [0, 1, 0]]))
    np.testing.assert_allclose(moved, [[1, 3, 3], [0, 2, 3]], atol=1e-12)


@given(poses)
def test_inverse_undoes(T):
    np.testing.assert_allclose(invert(T) @ T, np.eye(4), atol=1e-9)


@given(poses)
def test_quaternion_there_and_back(T):
    t, q = to_quaternion(T)
    assert q[3] >= 0
    np.testing.assert_allclose(from_quaternion(t, q), T, atol=1e-9)


@given(poses, poses, st.floats(0, 1))
def test_interpolation_is_slerp(T0, T1, fraction):
    between = interpolate(T0, T1, fraction)
    np.testing.assert_allclose(between[:3, 3], (1 - fraction) * T0[:3, 3] + fraction * T1[:3, 3], atol=1e-9)
    rotations = Rotation.from_matrix([T0[:3, :3], T1[:3, :3]])
    if (rotations[0].inv() * rotations[1]).magnitude() < np.pi - 1e-3:  # at half a turn the geodesic is not unique
        expected = Slerp([0, 1], rotations)(fraction).as_matrix()
        np.testing.assert_allclose(between[:3, :3], expected, atol=1e-6)


def test_many_quaternions_at_once_are_one_after_the_other_and_faults_have_their_row():
    q = np.array([[0, 0, np.sqrt(0.5), np.sqrt(0.5)], [0, 0, 0, 0], [0, 0, np.nan, 1], [0, 3, 0, 4]])
    found, faults = from_quaternions(np.tile([1.0, 2, 3], (4, 1)), q)
    np.testing.assert_array_equal(found[[0, 3]], [from_quaternion([1, 2, 3], row) for row in q[[0, 3]]])
    np.testing.assert_array_equal(found[[1, 2]], [np.eye(4)] * 2)
    assert [*faults] == [1, 2] and "[0.0, 0.0, 0.0, 0.0]" in faults[1].cause
    assert from_quaternions(np.zeros((0, 3)), np.zeros((0, 4)))[0].shape == (0, 4, 4)


def test_float32_points_stay_float32_and_float64_keeps_large_coordinates():
    T = np.eye(4)
    T[0, 3] = 5e6
    assert transform(T, np.zeros((2, 3), np.float32)).dtype == np.float32
    assert transform(T, np.full((1, 3), 0.125))[0, 0] == 5e6 + 0.125


def test_rounded_matrix_becomes_rigid_and_a_scaled_one_is_refused():
    rounded = np.round(QUARTER_LEFT @ from_quaternion([0, 0, 0], [0.1, 0.2, 0.3, 1]), 4)[:3]
    R = rigid(rounded)[:3, :3]
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(R, rounded[:, :3], atol=1e-3)
    for bad in (2 * np.eye(4), np.diag([1, 1, -1, 1]), np.full((4, 4), np.nan), np.eye(3)):
        with pytest.raises(TransformError, match="no rigid transform"):
            rigid(bad)


@pytest.mark.parametrize("q", [[0, 0, 0, 0], [np.nan, 0, 0, 1]])
def test_unset_quaternion_is_refused(q):
    with pytest.raises(TransformError, match="quaternion"):
        from_quaternion([0, 0, 0], q)


def test_interpolation_is_linear_in_place_and_angle_and_goes_on_beyond_the_ends():
    """10 m along x and a quarter turn: half of both in the middle, a tenth more at 1.1."""
    end = from_quaternion([10, 0, 0], [0, 0, np.sqrt(0.5), np.sqrt(0.5)])
    for fraction, x, yaw in [(0, 0, 0), (0.5, 5, 45), (1, 10, 90), (1.1, 11, 99)]:
        found = interpolate(np.eye(4), end, fraction)
        np.testing.assert_allclose(found[:3, 3], [x, 0, 0], atol=1e-9)
        angles = Rotation.from_matrix(found[:3, :3]).as_euler("xyz", degrees=True)
        np.testing.assert_allclose(angles, [0, 0, yaw], atol=1e-9)
