"""Whole drives: the same seed gives the same data, points and pictures agree, all classes appear."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from ov3d_perception.errors import DatasetError
from ov3d_perception.geometry.association import associate
from ov3d_perception.geometry.poses import invert, transform
from ov3d_perception.sim import classes
from ov3d_perception.sim.drive import EPOCH, SimFrame, SimulatedDrive, simulate
from ov3d_perception.sim.furnish import THINGS
from ov3d_perception.sim.lidar import LidarModel
from ov3d_perception.types import UNLABELLED

COARSE = LidarModel(columns=540, slices=1)


def test_a_seed_determines_everything(drive: SimulatedDrive, shot: SimFrame) -> None:
    again = simulate(2100, 3.0, stride=10, image_size=(320, 180))[1]  # without frame 0 before it
    for a, b in ((shot.raw, again.raw), (shot.scan, again.scan)):
        np.testing.assert_array_equal(a.xyz, b.xyz)
        np.testing.assert_array_equal(a.intensity, b.intensity)
    np.testing.assert_array_equal(shot.labels, again.labels)
    np.testing.assert_array_equal(shot.instances, again.instances)
    for view, other in zip(shot.views, again.views, strict=True):
        np.testing.assert_array_equal(view.image, other.image)
    different = simulate(2101, 3.0, stride=10, cameras=False, lidar=COARSE)[1]
    assert not different.views and different.labels.mean() != shot.labels.mean()


def test_truth_belongs_to_each_point(shot: SimFrame) -> None:
    n = len(shot.raw)
    assert n > 20000 and len(shot.scan) == len(shot.labels) == len(shot.instances) == n
    assert set(np.unique(shot.labels)) <= set(range(16))
    thing = np.isin(shot.labels, THINGS)
    assert (shot.instances[thing] > 0).all() and (shot.instances[~thing] == 0).all()
    for instance in np.unique(shot.instances[thing]):
        assert len(np.unique(shot.labels[shot.instances == instance])) == 1
    road = shot.scan.xyz[shot.labels == classes.DRIVEABLE_SURFACE]
    near = np.linalg.norm(road[:, :2], axis=1) < 8
    assert np.abs(road[near, 2] + 1.84).max() < 0.25  # the sensor is 1.84 m above the road


def test_cameras_fire_when_the_beam_passes(drive: SimulatedDrive, shot: SimFrame) -> None:
    assert shot.stamp == EPOCH + 1_000_000_000
    assert shot.raw.time is not None
    for view, mounted in zip(shot.views, drive.rig, strict=True):
        after = (view.stamp - shot.stamp) / 1e9
        assert 0 <= after < 0.1
        T_base = drive.base_at(np.array([(view.stamp - EPOCH) / 1e9]))[0]
        np.testing.assert_allclose(view.T_world_camera, T_base @ mounted.T_base_camera, atol=1e-9)
        azimuth = np.arctan2(shot.raw.xyz[:, 1], shot.raw.xyz[:, 0])
        ahead = np.abs(np.angle(np.exp(1j * (azimuth - mounted.yaw)))) < 0.004
        np.testing.assert_allclose(shot.raw.time[ahead], after, atol=2e-4)
    assert len({view.stamp for view in shot.views}) == 6


def test_points_meet_pixels_of_their_own_class(drive: SimulatedDrive, shot: SimFrame) -> None:
    """Away from class edges, and where the camera does see the point (it sits lower than the LiDAR)."""
    pairs = associate(shot.frame())
    agree, total = 0, 0
    world = drive.world.at(1.05)
    points = transform(shot.T_world_lidar, shot.scan.xyz)
    for number, truth in enumerate(shot.class_images):
        mine = pairs.camera == number
        uv, rows = np.round(pairs.uv[mine]).astype(int), pairs.point[mine]
        flat = ndimage.maximum_filter(truth, 5) == ndimage.minimum_filter(truth, 5)
        eye = shot.views[number].T_world_camera[:3, 3]
        way = points[rows] - eye
        reach = np.linalg.norm(way, axis=1)
        free = world.cast(np.broadcast_to(eye, way.shape), way / reach[:, None]).distance > reach - 0.3
        keep = flat[np.minimum(uv[:, 1], 179), np.minimum(uv[:, 0], 319)] & free
        seen = truth[np.minimum(uv[:, 1], 179), np.minimum(uv[:, 0], 319)]
        agree += int((seen == shot.labels[rows])[keep].sum())
        total += int(keep.sum())
    assert total > 8000
    assert agree / total >= 0.97


def test_deskewed_points_lie_where_the_world_is(drive: SimulatedDrive, shot: SimFrame) -> None:
    """A ray from each point's own firing pose to the de-skewed point meets static ground there."""
    assert shot.raw.time is not None
    poses = drive.lidar_at(1.0 + shot.raw.time.astype(float))
    world = np.einsum("nij,nj->ni", poses[:, :3, :3], shot.raw.xyz) + poses[:, :3, 3]
    np.testing.assert_allclose(transform(invert(shot.T_world_lidar), world), shot.scan.xyz, atol=5e-3)
    assert np.linalg.norm(shot.raw.xyz - shot.scan.xyz, axis=1).max() > 0.3  # half a metre of motion, at least


@pytest.mark.slow
def test_all_classes_appear() -> None:
    counts = np.zeros(16, int)
    for seed in (2102, 2103):
        drive = simulate(seed, 6.0, stride=20, cameras=False, lidar=COARSE)
        found = np.sum([np.bincount(shot.labels, minlength=16) for shot in drive], axis=0)
        assert (found > 0).sum() >= 14, (seed, [classes.NAMES[k] for k in np.flatnonzero(found == 0)])
        counts += found
    assert (counts >= 20).all(), dict(zip(classes.NAMES, counts.tolist(), strict=True))
    assert counts[classes.DRIVEABLE_SURFACE] / counts.sum() < 0.6


def test_pictures_show_many_classes_and_little_else(shot: SimFrame) -> None:
    shown = np.concatenate([truth.ravel() for truth in shot.class_images])
    assert len(set(np.unique(shown)) - {UNLABELLED}) >= 10
    for view in shot.views:
        assert view.image.shape == (180, 320, 3) and view.image.std() > 15 and 60 < view.image.mean() < 200


@pytest.mark.parametrize(
    "bad",
    [{"seed": -1}, {"duration_s": 0.0}, {"rate_hz": 0.0}, {"stride": 0}, {"image_size": (0, 10)}, {"duration_s": 1e9}],
)
def test_impossible_drives_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(DatasetError, match="positive"):
        simulate(**{"seed": 0, "duration_s": 1.0, **bad})  # type: ignore[arg-type]


def test_frames_are_counted(drive: SimulatedDrive) -> None:
    assert len(drive) == 3
    with pytest.raises(IndexError):
        drive[3]
