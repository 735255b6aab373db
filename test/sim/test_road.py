"""The road: unit speed along s, gentle bends, poses that agree with coordinates."""

from __future__ import annotations

import numpy as np
import pytest

from ov3d_perception.sim.road import Road


@pytest.mark.parametrize("seed", range(5))
def test_geometry(seed: int) -> None:
    road = Road(np.random.default_rng(seed), -50, 100, curvature=0.012)
    s = np.linspace(-50, 100, 601)
    points = road.bend(np.column_stack([s, np.zeros_like(s), np.zeros_like(s)]))
    np.testing.assert_allclose(road.bend(np.zeros(3)), 0, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1), 0.25, rtol=1e-3)
    assert np.abs(np.gradient(road.heading(s), s)).max() <= 0.0121
    poses = road.pose(s, 2.0, 0.5)
    np.testing.assert_allclose(poses[:, :3, 3], road.bend(np.column_stack([s, 0 * s + 2.0, 0 * s + 0.5])), atol=1e-9)
    np.testing.assert_allclose(
        poses[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1), np.eye(3)[None].repeat(601, 0), atol=1e-9
    )
    ahead = np.gradient(points, s, axis=0)
    assert ((poses[:, :3, 0] * ahead).sum(axis=1) > 0.999).all()


def test_left_is_left() -> None:
    road = Road(np.random.default_rng(0), -50, 100)
    left = road.bend(np.array([10.0, 3.0, 0.0])) - road.bend(np.array([10.0, 0.0, 0.0]))
    heading = road.heading(10.0)
    np.testing.assert_allclose(left, [-3 * np.sin(heading), 3 * np.cos(heading), 0], atol=1e-9)
