"""Rotations against SciPy's."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ov3d_perception.geometry.rotations import (
    matrices_of,
    matrices_of_vectors,
    nearest,
    quaternions_of,
    vectors_of,
)

vectors = st.tuples(*[st.floats(-1, 1)] * 3).map(np.array)
angles = st.one_of(st.floats(0, np.pi - 1e-6), st.sampled_from([0.0, 1e-300, 1e-12, 1e-9, 1e-7, np.pi - 1e-6]))


@given(vectors.filter(lambda v: np.linalg.norm(v) > 0.1), angles)
def test_there_and_back_as_scipys(axis: np.ndarray, angle: float) -> None:
    """Of small angles, of nearly half turns, and by whatever component is the largest."""
    vector = angle * axis / np.linalg.norm(axis)
    expected = Rotation.from_rotvec(vector)
    matrix = matrices_of_vectors(vector)
    np.testing.assert_allclose(matrix, expected.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(vectors_of(matrix), vector, atol=1e-8)
    quaternion = quaternions_of(matrix)
    np.testing.assert_allclose(quaternion, expected.as_quat(canonical=True), atol=1e-8)
    np.testing.assert_allclose(matrices_of(3 * quaternion), matrix, atol=1e-12)


def test_half_turns() -> None:
    for axis in (*np.eye(3), np.array([0.6, -0.8, 0.0]), np.ones(3) / 3**0.5):
        matrix = 2 * np.outer(axis, axis) - np.eye(3)
        np.testing.assert_allclose(matrices_of(quaternions_of(matrix)), matrix, atol=1e-12)
        np.testing.assert_allclose(np.abs(vectors_of(matrix) @ axis), np.pi, atol=1e-9)


def test_many_at_once_are_each_by_itself() -> None:
    many = Rotation.random(50, rng=np.random.default_rng(0)).as_matrix()
    np.testing.assert_array_equal(quaternions_of(many), [quaternions_of(one) for one in many])
    np.testing.assert_allclose(matrices_of_vectors(vectors_of(many)), many, atol=1e-12)


def test_the_nearest_rotation_is_scipys() -> None:
    rounded = np.round(Rotation.from_euler("xyz", [0.3, -1.2, 2.0]).as_matrix(), 2)
    np.testing.assert_allclose(nearest(rounded), Rotation.from_matrix(rounded).as_matrix(), atol=1e-9)
