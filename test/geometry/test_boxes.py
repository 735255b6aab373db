"""Boxes by hand."""

from __future__ import annotations

import numpy as np

from ov3d_perception.geometry.boxes import Box, points_in_box


def test_corners_of_a_box_turned_a_quarter():
    box = Box(np.array([10.0, 0, 1]), np.array([4.0, 2, 2]), np.pi / 2)
    expected = [[9, 2, 0], [9, -2, 0], [11, -2, 0], [11, 2, 0]]
    np.testing.assert_allclose(box.corners[:4], expected, atol=1e-12)
    np.testing.assert_allclose(box.corners[4:], np.add(expected, [0, 0, 2]), atol=1e-12)


def test_points_inside_a_turned_box():
    box = Box(np.array([0.0, 0, 0]), np.array([4.0, 1, 2]), np.pi / 4)
    xyz = np.array([[1.4, 1.4, 0], [1.5, 1.5, 0], [1.4, -1.4, 0], [0, 0, 0.99], [0, 0, 1.01]], np.float32)
    np.testing.assert_array_equal(points_in_box(xyz, box), [True, False, False, True, False])
