"""KISS-ICP in its child process: known motions come back, at their stamps; what would end the library is kept away."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from real_data import data_dir

from ov3d_perception.bags import messages
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.bags.writer import BagWriter
from ov3d_perception.datasets.bag import Bag
from ov3d_perception.datasets.semantickitti import SemanticKitti
from ov3d_perception.errors import OdometryError
from ov3d_perception.geometry.poses import invert
from ov3d_perception.odometry import kiss
from ov3d_perception.odometry.kiss import KissSettings, prepared, register
from ov3d_perception.odometry.of_bag import drift_of_bag, trajectory_of_bag, write_transforms
from ov3d_perception.odometry.trajectory import drift
from ov3d_perception.types import Scan

pytest.importorskip("kiss_icp", reason="KISS-ICP is an extra: pip install '.[odometry]'")

S = 1_000_000_000
START = 1_000 * S
SPEED = 2.0  # m/s along x
MOUNT = np.array([[1.0, 0, 0, 0.3], [0, 1, 0, 0], [0, 0, 1, 1.5], [0, 0, 0, 1]])  # of the LiDAR on the robot


def hall() -> np.ndarray:
    """Points on the floor, the walls and twelve pillars of a hall of 40 m x 24 m, from the floor on."""
    rng = np.random.default_rng(0)
    u, v = rng.uniform(0, 1, (2, 8000))
    walls = [np.c_[40 * u - 20, np.full(8000, side), 5 * v] for side in (-12.0, 12.0)]
    walls += [np.c_[np.full(8000, side), 24 * u - 12, 5 * v] for side in (-20.0, 20.0)]
    pillars = [
        np.c_[x + 0.4 * np.cos(6.3 * u), y + 0.4 * np.sin(6.3 * u), 5 * v][:2000]
        for x in (-14, -5, 3, 11)
        for y in (-7.0, 1.0, 8.0)
    ]
    return np.concatenate([np.c_[40 * u - 20, 24 * v - 12, 0 * u], *walls, *pillars])


def base_at(seconds: float) -> np.ndarray:
    T = np.eye(4)
    T[0, 3] = SPEED * seconds
    return T


def scan(number: int, timed: bool) -> Scan:
    """A revolution of 0.1 s in the hall; timed: each point as the moving sensor measured it."""
    start, world = number / 10, hall()
    turn = np.arctan2(world[:, 1], world[:, 0] - SPEED * start - MOUNT[0, 3]) / (2 * np.pi) + 0.5
    time = 0.1 * turn if timed else 0 * turn
    xyz = world - MOUNT[:3, 3] - np.c_[SPEED * (start + time), 0 * time, 0 * time]
    zeros = np.zeros(len(world), np.float32)
    return Scan(
        xyz.astype(np.float32), zeros, START + number * S // 10, time=time.astype(np.float32) if timed else None
    )


SETTINGS = KissSettings(voxel_size=0.5)


def test_a_timed_scan_has_its_pose_at_its_end() -> None:
    found = list(register((scan(number, timed=True) for number in range(8)), SETTINGS))
    ends = [START + (number + 1) * S // 10 for number in range(8)]
    np.testing.assert_allclose([one.stamp for one in found], ends, rtol=0, atol=1000)  # the times have 32 bits
    x = [one.T_odom_lidar[0, 3] for one in found if one.T_odom_lidar is not None]
    np.testing.assert_allclose(np.diff(x), SPEED / 10, atol=0.03)


def test_times_that_are_all_alike_are_kept_from_the_library() -> None:
    one = scan(0, timed=False)
    alike = Scan(one.xyz, one.intensity, one.stamp, time=np.full(len(one), 0.05, np.float32))
    stamp, points, times = prepared(alike, SETTINGS)
    assert (stamp, len(times)) == (one.stamp, 0)
    assert 0 < len(points) < len(one)


def test_a_nearly_empty_scan_has_no_pose_and_the_others_go_on() -> None:
    empty = Scan(np.zeros((0, 3), np.float32), np.zeros(0, np.float32), START)
    scans = [scan(0, timed=False), empty, scan(2, timed=False)]
    first, second, third = register(scans, SETTINGS)
    assert first.T_odom_lidar is not None and third.T_odom_lidar is not None
    assert second.T_odom_lidar is None and "fill 0 voxels" in second.problem
    assert third.T_odom_lidar[0, 3] - first.T_odom_lidar[0, 3] == pytest.approx(2 * SPEED / 10, abs=0.05)


def test_the_end_of_the_child_is_an_error_here(monkeypatch: pytest.MonkeyPatch) -> None:
    children = []
    begin = kiss.multiprocessing.process.BaseProcess.start

    def start(process: object) -> None:
        begin(process)  # type: ignore[arg-type]
        children.append(process.pid)  # type: ignore[attr-defined]

    monkeypatch.setattr(kiss.multiprocessing.process.BaseProcess, "start", start)
    found = register((scan(number, timed=False) for number in range(7)), SETTINGS)
    for _ in range(6):
        next(found)
    os.kill(children[0], signal.SIGKILL)
    with pytest.raises(OdometryError, match="process ended at scan 6"):
        list(found)


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kiss, "find_spec", lambda name: None)
    with pytest.raises(OdometryError, match="pip install"):
        next(register([], SETTINGS))


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Six timed scans of the hall, and TF that says only where the LiDAR is on the robot."""
    path = tmp_path / "hall"
    with BagWriter(path) as bag:
        bag.write("/tf_static", messages.tf_message([("base_link", "lidar", START, MOUNT)]), START)
        for number in range(6):
            one = scan(number, timed=True)
            columns = {name: one.xyz[:, axis] for axis, name in enumerate("xyz")}
            columns |= {"intensity": one.intensity, "time": np.asarray(one.time)}
            bag.write("/points", messages.point_cloud(columns, one.stamp, "lidar"), one.stamp + S // 10)
    return path


def test_transforms_of_a_bag_give_its_frames_poses(bag: Path, tmp_path: Path) -> None:
    track = write_transforms(bag, tmp_path / "tf", settings=SETTINGS)
    assert (track.frame_id, len(track.stamps), track.stamps[0]) == ("lidar", 7, START)
    frames = Bag(bag, tf=tmp_path / "tf", images=False)
    assert len(frames) == 6
    poses = [frame.sweeps[0].T_world_lidar for frame in frames]
    np.testing.assert_allclose(poses[0], MOUNT, atol=1e-4)  # odom is where the robot was first
    np.testing.assert_allclose((invert(poses[3]) @ poses[5])[:3, 3], base_at(0.2)[:3, 3], atol=0.04)
    with open_bag(tmp_path / "tf") as written:
        assert list(written.topics) == ["/tf"]


def test_odometry_that_is_there_is_not_replaced(bag: Path, tmp_path: Path) -> None:
    write_transforms(bag, tmp_path / "tf", settings=SETTINGS)
    whole = tmp_path / "whole"
    with BagWriter(whole) as out:
        for source in (bag, tmp_path / "tf"):
            with open_bag(source) as read:
                for message in read.messages():
                    out.write_raw(message.topic, message.msgtype, message.data, message.stamp)
    with pytest.raises(OdometryError, match="it has odometry"):
        write_transforms(whole, tmp_path / "again")
    assert drift_of_bag(whole, settings=SETTINGS).metres < 0.02  # from itself


def test_two_scans_are_the_least(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "short") as out:
        one = scan(0, timed=False)
        columns = {name: one.xyz[:, axis] for axis, name in enumerate("xyz")}
        out.write("/points", messages.point_cloud(columns, START, "lidar"), START)
    with pytest.raises(OdometryError, match="1 scans"):
        trajectory_of_bag(tmp_path / "short")


def test_drift_on_semantickitti() -> None:
    root = data_dir()
    if root is None or not (root / "semantickitti").is_dir():
        pytest.skip("needs SemanticKITTI in $OV3D_TEST_DATA/semantickitti")
    frames = list(SemanticKitti(root / "semantickitti", sequences=["06"], images=False, labels=False))
    found = [one.T_odom_lidar for one in register(frame.sweeps[0].scan for frame in frames)]
    truth = np.array([frame.sweeps[0].T_world_lidar for frame in frames])
    assert drift(np.array(found), truth, 4).share < 0.02
