"""The LiDAR on scenes made by hand: times, distortion and its removal, noise, dropouts, intensity."""

from __future__ import annotations

import numpy as np
import pytest

from ov3d_perception.geometry.deskew import deskew
from ov3d_perception.sim import classes, lidar, rig
from ov3d_perception.sim.lidar import LidarModel
from ov3d_perception.sim.meshes import Mesh, Surface, box
from ov3d_perception.sim.rays import Layer, RayScene

GREY = Surface((0.5, 0.5, 0.5), reflectivity=0.5)
EXACT = LidarModel(noise=0.0, dropout=0.0, columns=360)
PERIOD = 0.1


def moving(times: np.ndarray) -> np.ndarray:
    """A sensor at 8 m/s along x that turns by 0.5 rad/s."""
    T = np.tile(np.eye(4), (len(times), 1, 1))
    c, s = np.cos(0.5 * times), np.sin(0.5 * times)
    T[:, 0, 0], T[:, 0, 1], T[:, 1, 0], T[:, 1, 1] = c, -s, s, c
    T[:, 0, 3] = 8 * times
    return T


def still(times: np.ndarray) -> np.ndarray:
    return np.tile(np.eye(4), (len(times), 1, 1))


def sweep(mesh: Mesh, model: LidarModel = EXACT, poses=still, seed: int = 0) -> lidar.LidarReturn:
    scenes = [RayScene(Layer(mesh))] * model.slices
    return lidar.sweep(model, scenes, poses, 0.0, PERIOD, np.random.default_rng(seed))


def sphere_room(reflectivity: float = 0.5, radius: float = 10.0) -> Mesh:
    """A cube around the sensor: ranges are known from the direction alone."""
    return box([2 * radius] * 3, (0, 0, 0), Surface((0.5,) * 3, reflectivity=reflectivity)).tagged(classes.MANMADE)


def test_a_static_wall_is_flat_after_deskewing_and_not_before() -> None:
    wall = box((0.2, 200, 100), (20.1, 0, 0), GREY).tagged(classes.MANMADE, 0)
    found = sweep(wall, poses=moving)
    still_scan = deskew(found.scan, lambda stamps: moving(stamps / 1e9))
    assert len(found.scan) > 1000
    assert np.ptp(found.scan.xyz[:, 0]) > 0.2
    np.testing.assert_allclose(still_scan.xyz[:, 0], 20.0, atol=5e-3)


def test_times_rings_and_directions_belong_together() -> None:
    scan = sweep(sphere_room()).scan
    assert scan.time is not None and scan.ring is not None and len(scan) == 360 * 32
    assert (np.diff(scan.time) >= 0).all() and scan.time[0] == 0 and scan.time[-1] < PERIOD
    azimuth, elevation = (
        np.arctan2(scan.xyz[:, 1], scan.xyz[:, 0]),
        np.arcsin(scan.xyz[:, 2] / np.linalg.norm(scan.xyz, axis=1)),
    )
    phase = np.array([EXACT.phase(a - 1e-6) for a in azimuth])
    np.testing.assert_allclose(phase * PERIOD, scan.time, atol=1e-6)
    expected = np.radians(EXACT.lowest + (EXACT.highest - EXACT.lowest) * scan.ring / 31)
    np.testing.assert_allclose(elevation, expected, atol=1e-5)


def test_range_noise_has_the_models_spread() -> None:
    room = sphere_room()
    exact = np.linalg.norm(sweep(room).scan.xyz, axis=1)
    noisy = np.linalg.norm(sweep(room, LidarModel(noise=0.02, dropout=0.0, columns=360)).scan.xyz, axis=1)
    error = noisy - exact
    assert error.std() == pytest.approx(0.02, rel=0.05)
    assert abs(error.mean()) < 1e-3


def test_dropouts_grow_for_dark_and_far_surfaces() -> None:
    model = LidarModel(columns=360)
    share = lambda mesh: len(sweep(mesh, model).scan) / (360 * 32)  # noqa: E731
    assert share(sphere_room(0.5)) == pytest.approx(1 - model.dropout, abs=0.005)
    assert share(sphere_room(0.01)) < 0.75
    assert share(sphere_room(0.05, radius=40.0)) < share(sphere_room(0.5, radius=40.0)) - 0.03
    assert share(sphere_room(radius=0.4)) < 0.1  # nearer than the least range
    assert share(sphere_room(radius=80.0)) == 0  # farther than the greatest


def test_intensity_follows_reflectivity_and_stays_in_range() -> None:
    dark, bright = sweep(sphere_room(0.2)).scan.intensity, sweep(sphere_room(0.9)).scan.intensity
    assert 3.5 < bright.mean() / dark.mean() < 5.5
    assert dark.min() >= 0 and bright.max() <= 1


def test_truth_has_the_order_of_the_points() -> None:
    post = box((0.6, 0.6, 4), (6, 0, 0), GREY).tagged(classes.PEDESTRIAN, 5)
    both = [RayScene(Layer(sphere_room()), Layer(post))] * EXACT.slices
    found = lidar.sweep(EXACT, both, still, 0.0, PERIOD, np.random.default_rng(0))
    on_post = (np.abs(found.scan.xyz[:, 0] - 6) < 0.31) & (np.abs(found.scan.xyz[:, 1]) < 0.31)
    on_post &= np.abs(found.scan.xyz[:, 2]) < 2.01
    assert on_post.sum() > 20
    np.testing.assert_array_equal(found.labels == classes.PEDESTRIAN, on_post)
    np.testing.assert_array_equal(found.instances == 5, on_post)


def test_beams_lie_evenly_or_in_two_halves() -> None:
    even = np.degrees(LidarModel(beams=5, lowest=-20, highest=20).elevations())
    np.testing.assert_allclose(even, [-20, -10, 0, 10, 20])
    halves = np.degrees(LidarModel(beams=6, lowest=-24, middle=-8, highest=2).elevations())
    np.testing.assert_allclose(halves, [-24, -56 / 3, -40 / 3, -8, -3, 2])


def test_the_car_with_kittis_lidar_sees_the_ground_at_its_height() -> None:
    """Half of its beams look farther than eleven metres on a level road."""
    found = rig.CAR64.lidar.elevations()
    assert len(found) == 64 and (np.diff(found) > 0).all()
    reach = rig.CAR64.lidar_at[2] / np.tan(np.maximum(-found, 1e-6))
    assert np.median(reach) == pytest.approx(11.25, abs=0.1)
