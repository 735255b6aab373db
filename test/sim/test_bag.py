"""A drive as a bag: topics, truth in the points' order, poses by TF, refusal to overwrite, nothing of a killed one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ov3d_perception.bags.pointcloud2 import decode, structured
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.errors import BagError
from ov3d_perception.geometry.deskew import deskew
from ov3d_perception.sim.bag import write_drive
from ov3d_perception.sim.drive import SimulatedDrive, simulate
from ov3d_perception.sim.lidar import LidarModel

CAMERAS = ("cam_front", "cam_front_left", "cam_front_right", "cam_back", "cam_back_left", "cam_back_right")


@pytest.fixture(scope="module")
def short() -> SimulatedDrive:
    return simulate(2105, 0.3, image_every=2, image_size=(96, 54), lidar=LidarModel(columns=270))


@pytest.fixture(scope="module")
def bag(short: SimulatedDrive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drive(tmp_path_factory.mktemp("sim") / "bag", short)


def test_topics_and_counts(bag: Path) -> None:
    with open_bag(bag) as opened:
        counts: dict[str, int] = {}
        for message in opened.messages():
            counts[message.topic] = counts.get(message.topic, 0) + 1
    assert counts["/points"] == counts["/ground_truth/points"] == 3
    for name in CAMERAS:
        assert counts[f"/{name}/image_raw/compressed"] == counts[f"/{name}/camera_info"] == 2
    assert counts["/tf_static"] == 1 and counts["/tf"] == counts["/odom"] >= 16


def test_points_truth_and_poses_survive(bag: Path, short: SimulatedDrive) -> None:
    shots = list(short)
    with open_bag(bag) as opened:
        tree = opened.transforms()
        clouds = [m.decode() for m in opened.messages(["/points"])]
        truths = [structured(m.decode()) for m in opened.messages(["/ground_truth/points"])]
    for shot, cloud, truth in zip(shots, clouds, truths, strict=True):
        scan = decode(cloud)
        assert scan.stamp == shot.stamp and scan.frame_id == "lidar"
        np.testing.assert_array_equal(scan.xyz, shot.raw.xyz)
        np.testing.assert_array_equal(scan.ring, shot.raw.ring)
        np.testing.assert_allclose(scan.time, shot.raw.time, atol=1e-7)
        np.testing.assert_array_equal(truth["label"], shot.labels)
        np.testing.assert_array_equal(truth["instance"], shot.instances)
        np.testing.assert_array_equal(truth["x"], shot.raw.xyz[:, 0])
        T = tree.lookup("map", "lidar", shot.stamp)
        np.testing.assert_allclose(T, shot.T_world_lidar, atol=2e-3)
        flat = deskew(scan, lambda at: tree.lookup_each("map", "lidar", at))
        np.testing.assert_allclose(flat.xyz, shot.scan.xyz, atol=5e-3)


def test_an_existing_bag_is_kept_unless_told(bag: Path, short: SimulatedDrive) -> None:
    with pytest.raises(BagError, match="exists"):
        write_drive(bag, short)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_drive_that_is_cut_short_is_no_bag(number: int, tmp_path: Path) -> None:
    """Ctrl-C removes what was written; a killed process leaves it hidden, for the next one to remove."""
    out = tmp_path / "drive"
    command = [sys.executable, "-m", "ov3d_perception.cli", "simulate", str(out), "--image-every", "1000"]
    process = subprocess.Popen(
        [*command, "--seconds", "60"],
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a shell's background job ignores
    )
    try:
        until = time.monotonic() + 60
        while not any(file.stat().st_size > 100_000 for file in tmp_path.rglob("drive.mcap")):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(30) != 0
    finally:
        process.kill()
    assert not out.exists()
    assert bool(os.listdir(tmp_path)) == (number == signal.SIGTERM)
    subprocess.run([*command, "--seconds", "0.2"], check=True, stdout=subprocess.DEVNULL)
    assert os.listdir(tmp_path) == ["drive"]
    with open_bag(out) as bag:
        assert bag.topics["/points"].count == 2
