"""Turning clouds upright, against rotations written by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ov3d_perception.errors import TransformError
from ov3d_perception.geometry.sweeps import SweepAccumulator
from ov3d_perception.geometry.upright import (
    Gravity,
    Upright,
    as_sensed,
    tilt_deg,
    upright_by_frame,
    upright_by_gravity,
    upright_points,
)
from ov3d_perception.types import Scan

S = 1_000_000_000
OPTICAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # x right, y down, z forward, in a base frame
POINTS = np.float32([[10, 0, -1.8], [0, 5, 0.5]])


def pose(R: np.ndarray) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, (1.0, 2.0, 3.0)
    return T


@pytest.mark.parametrize(
    ("R_base_lidar", "seen"),
    [
        (np.diag([1.0, -1, -1]), [[10, 0, 1.8], [0, -5, -0.5]]),  # upside down
        (OPTICAL, [[0, 1.8, 10], [-5, -0.5, 0]]),
    ],
)
def test_by_a_base_frame(R_base_lidar: np.ndarray, seen: list[list[float]]) -> None:
    """``seen`` is what a sensor so mounted measures of POINTS; turned upright, POINTS come back."""
    scan = Scan(np.float32(seen), np.zeros(2, np.float32), R_upright=upright_by_frame(pose(R_base_lidar)))
    np.testing.assert_allclose(upright_points(scan), POINTS, atol=1e-6)
    np.testing.assert_allclose(as_sensed(scan, upright_points(scan)), seen, atol=1e-6)


def test_a_level_sensor_is_left_alone() -> None:
    assert upright_by_frame(pose(Rotation.from_euler("z", 90, degrees=True).as_matrix())) is None
    assert upright_by_frame(pose(Rotation.from_euler("x", 0.4, degrees=True).as_matrix())) is None
    assert upright_by_frame(pose(Rotation.from_euler("x", 0.6, degrees=True).as_matrix())) is not None
    assert upright_by_gravity(np.array([0, 0, 9.81])) is None
    scan = Scan(POINTS, np.zeros(2, np.float32))
    assert upright_points(scan) is scan.xyz and as_sensed(scan, POINTS) is POINTS


@given(st.floats(-180, 180), st.floats(-89, 89), st.floats(0.1, 20))
def test_by_gravity(roll: float, pitch: float, length: float) -> None:
    """Up becomes z, and nothing is turned further than it must be."""
    R = Rotation.from_euler("xy", [roll, pitch], degrees=True).as_matrix()
    up = R.T @ [0, 0, 1]  # in the sensor's frame
    turn = upright_by_gravity(length * up)
    if turn is None:
        assert tilt_deg(R) < 0.5 + 1e-6
        return
    np.testing.assert_allclose(turn @ up, [0, 0, 1], atol=1e-9)
    assert np.degrees(Rotation.from_matrix(turn).magnitude()) == pytest.approx(tilt_deg(R), abs=1e-4)


def test_upside_down_by_gravity() -> None:
    np.testing.assert_allclose(upright_by_gravity(np.array([0, 0, -1.0])), np.diag([1, -1, -1]), atol=1e-12)
    with pytest.raises(ValueError, match="no direction"):
        upright_by_gravity(np.zeros(3))


def test_gravity_is_the_mean_around_a_moment() -> None:
    gravity = Gravity(window_s=2.0, keep_s=5.0)
    assert gravity.up(0) is None
    for tick in range(100):
        gravity.add(tick * S // 10, (0.0, 1.0 if tick % 2 else -1.0, 1.0 if tick < 60 else 9.8))
    gravity.add(10 * S, (np.nan, 0.0, 0.0))
    np.testing.assert_allclose(gravity.up(8 * S), [0, 1 / 21 * -1, 9.8], atol=1e-9)
    assert gravity.up(2 * S) is None, "older than what is kept"
    gravity.add(S, (1.0, 0.0, 0.0))
    np.testing.assert_allclose(gravity.up(S), [1, 0, 0])
    assert gravity.up(8 * S) is None, "time began anew"


def test_sweeps_are_merged_in_the_sensor_and_turned_once() -> None:
    """Hung upside down and 1 m farther along the world's x: the point ahead at 10 m was seen at 11 m before."""
    R = np.diag([1.0, -1, -1])
    earlier = Scan(np.float32([[11, 0, 1.8]]), np.ones(1, np.float32), stamp=S, R_upright=R)
    newest = replace(earlier, xyz=np.float32([[10, 0, 1.8]]), stamp=S + S // 10)
    T0, T1 = pose(R), pose(R)
    T1[0, 3] += 1.0
    merging = SweepAccumulator(2)
    merging.merge(earlier, T0)
    np.testing.assert_allclose(merging.merge(newest, T1).xyz, [[10, 0, -1.8]] * 2, atol=1e-6)


def test_a_robot_without_base_link_is_levelled_by_its_footprint() -> None:
    R = Rotation.from_euler("x", 180, degrees=True).as_matrix()

    def lookup(target: str, source: str, stamp: int) -> np.ndarray:
        if target != "base_footprint":
            raise TransformError(f"No frame '{target}'", "Publish it")
        return pose(R)

    scan = Scan(np.ones((1, 3), np.float32), np.zeros(1, np.float32), 0, "lidar")
    turned, how = Upright("base").apply(scan, lookup)
    np.testing.assert_allclose(turned.R_upright, R, atol=1e-12)
    assert "180.0 degrees, by base_footprint <- lidar" in how


def test_an_imu_of_another_clock_is_told_from_none() -> None:
    """As an Ouster sends it whose IMU counts from power-on, and whose clouds have the host's time."""

    def lookup(target: str, source: str, stamp: int) -> np.ndarray:
        raise TransformError(f"No frame '{target}'", "Publish it")

    gravity = Gravity()
    scan = Scan(np.ones((1, 3), np.float32), np.zeros(1, np.float32), 1_600_000_000 * S, "lidar")
    assert "No IMU measures gravity" in Upright(gravity=gravity).apply(scan, lookup)[1]
    gravity.add(1622 * S, (0.0, 0.0, 9.8))
    assert "The IMU's stamps are 1599998378.0 s away from the scan's" in Upright(gravity=gravity).apply(scan, lookup)[1]
    with pytest.raises(TransformError, match="share one clock"):
        Upright("imu", gravity=gravity).apply(scan, lookup)
