"""What the writer writes, against the published schema; and the reader takes it back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ov3d_perception.datasets.nuscenes import NuScenes
from ov3d_perception.datasets.nuscenes_files import CAMERAS, LIDAR
from ov3d_perception.datasets.nuscenes_writer import TABLES, Drive, write_nuscenes
from ov3d_perception.errors import DatasetError
from ov3d_perception.geometry.poses import from_quaternion
from ov3d_perception.types import UNLABELLED, Camera, Frame, Pose, Scan, Sweep, View

# Columns of the tables that are not empty, from the published schema.
SCHEMA = {
    "calibrated_sensor": "token sensor_token translation rotation camera_intrinsic",
    "category": "token name description index",
    "ego_pose": "token translation rotation timestamp",
    "lidarseg": "token filename sample_data_token",
    "log": "token logfile vehicle date_captured location",
    "map": "token log_tokens category filename",
    "sample": "token timestamp scene_token next prev",
    "sample_data": "token sample_token ego_pose_token calibrated_sensor_token filename fileformat width height"
    " timestamp is_key_frame next prev",
    "scene": "token name description log_token nbr_samples first_sample_token last_sample_token",
    "sensor": "token channel modality",
    "visibility": "token level description",
}
K = np.array([[60, 0, 47.5], [0, 60, 26.5], [0, 0, 1]])


def pose(*translation: float, yaw: float = 0.0, pitch: float = 0.0) -> Pose:
    turn = from_quaternion([0, 0, 0], [0, np.sin(pitch / 2), 0, np.cos(pitch / 2)])
    return from_quaternion(translation, [0, 0, np.sin(yaw / 2), np.cos(yaw / 2)]) @ turn


MOUNT = pose(1, 0, 1.8, yaw=0.1)
CAMERA_MOUNTS = {name.lower(): pose(1.5, 0.1, 1.5, yaw=i, pitch=0.2) for i, name in enumerate(CAMERAS)}


def frames(count: int = 5, key_every: int = 2) -> Iterator[Frame]:
    """Revolutions at 20 Hz along a curve; key frames with a different image from each camera."""
    for number in range(count):
        rng = np.random.default_rng(number)
        stamp, T = 1_700_000_000_000_000_000 + number * 50_000_000, pose(3.0 * number, number, 0.1, yaw=0.2 * number)
        strength = rng.integers(0, 256, 20).astype(np.float32) / 255
        ring = np.arange(20, dtype=np.int32)
        scan = Scan(rng.normal(0, 20, (20, 3)).astype(np.float32), strength, stamp, ring=ring)
        labels = np.where(np.arange(20) < 16, np.arange(20), UNLABELLED).astype(np.int32)
        views = [
            View(
                Camera(name, 96, 54, K), T @ mount, np.full((54, 96, 3), 20 * i, np.uint8), stamp + 1_000_000 * (i + 1)
            )
            for i, (name, mount) in enumerate(CAMERA_MOUNTS.items())
        ]
        yield Frame("x", (Sweep(scan, T @ MOUNT),), tuple(views) if number % key_every == 0 else (), labels)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    drives = [Drive(name, frames(), MOUNT, CAMERA_MOUNTS) for name in ("scene-0061", "scene-0103")]
    return write_nuscenes(tmp_path_factory.mktemp("nuscenes"), drives)


def table(root: Path, name: str) -> list[dict[str, Any]]:
    return json.loads((root / "v1.0-mini" / f"{name}.json").read_text())


def test_every_table_has_the_published_columns(root):
    assert {path.stem for path in (root / "v1.0-mini").iterdir()} == set(TABLES)
    for name in TABLES:
        rows = table(root, name)
        assert bool(rows) == (name in SCHEMA)
        assert all(set(row) == set(SCHEMA[name].split()) for row in rows)
        assert len({row["token"] for row in rows}) == len(rows)


def test_all_foreign_keys_and_files_exist(root):
    tokens = {name: {row["token"] for row in table(root, name)} for name in TABLES}
    keys = {
        "calibrated_sensor": {"sensor_token": "sensor"},
        "lidarseg": {"sample_data_token": "sample_data"},
        "sample": {"scene_token": "scene", "next": "sample", "prev": "sample"},
        "sample_data": {
            "sample_token": "sample",
            "ego_pose_token": "ego_pose",
            "calibrated_sensor_token": "calibrated_sensor",
            "next": "sample_data",
            "prev": "sample_data",
        },
        "scene": {"log_token": "log", "first_sample_token": "sample", "last_sample_token": "sample"},
    }
    for name, columns in keys.items():
        for row in table(root, name):
            for column, target in columns.items():
                assert row[column] in tokens[target] or (column in ("next", "prev") and row[column] == "")
    for name in ("sample_data", "lidarseg", "map"):
        assert all((root / row["filename"]).is_file() for row in table(root, name))
    assert all(set(row["log_tokens"]) <= tokens["log"] for row in table(root, "map"))


def test_chains_run_through_each_sensor_of_a_scene(root):
    rows = {row["token"]: row for row in table(root, "sample_data")}
    channels = {row["token"]: row["channel"] for row in table(root, "sensor")}
    sensors = {row["token"]: channels[row["sensor_token"]] for row in table(root, "calibrated_sensor")}
    starts = [row for row in rows.values() if row["prev"] == ""]
    assert len(starts) == 2 * 7
    for row in starts:
        length, stamp = 1, row["timestamp"]
        while row["next"]:
            assert rows[row["next"]]["prev"] == row["token"]
            row = rows[row["next"]]
            assert row["timestamp"] > stamp
            length, stamp = length + 1, row["timestamp"]
        assert length == (5 if sensors[row["calibrated_sensor_token"]] == LIDAR else 3)


def test_a_sweep_belongs_to_the_key_frame_that_follows_it(root):
    stamps = {row["token"]: row["timestamp"] for row in table(root, "sample")}
    for row in table(root, "sample_data"):
        if row["filename"].startswith("sweeps/"):
            assert 0 < stamps[row["sample_token"]] - row["timestamp"] <= 50_000
            assert not row["is_key_frame"]
        else:
            assert abs(stamps[row["sample_token"]] - row["timestamp"]) <= 6_000 and row["is_key_frame"]


def test_labels_are_lidarsegs_bytes(root):
    """barrier 9, bicycle 14, bus 15, ... vegetation 30; without a class: noise 0."""
    expected = [9, 14, 15, 17, 18, 21, 2, 12, 22, 23, 24, 25, 26, 27, 28, 30, 0, 0, 0, 0]
    for row in table(root, "lidarseg"):
        np.testing.assert_array_equal(np.fromfile(root / row["filename"], np.uint8), expected)
        assert row["filename"] == f"lidarseg/v1.0-mini/{row['sample_data_token']}_lidarseg.bin"


@pytest.mark.parametrize(("split", "scene"), [("mini_train", "scene-0061"), ("mini_val", "scene-0103")])
def test_the_reader_takes_it_back(root, split, scene):
    source, truth = NuScenes(root, split=split, sweeps=3), list(frames())
    assert source.sequences == (scene,) and len(source) == 3
    for number, frame in enumerate(source):
        expected = truth[2 * number]
        for back, sweep in enumerate(frame.sweeps):
            other = truth[2 * number - back].sweeps[0]
            np.testing.assert_array_equal(sweep.scan.xyz, other.scan.xyz)
            np.testing.assert_allclose(sweep.scan.intensity, other.scan.intensity, atol=1e-6)
            np.testing.assert_array_equal(sweep.scan.ring, other.scan.ring)
            np.testing.assert_allclose(sweep.T_world_lidar, other.T_world_lidar, atol=1e-9)
            assert sweep.scan.stamp == other.scan.stamp
        assert len(frame.sweeps) == min(3, 2 * number + 1)
        np.testing.assert_array_equal(frame.labels, expected.labels)
        views = {view.camera.name: view for view in expected.views}
        assert [view.camera.name for view in frame.views] == [name.lower() for name in CAMERAS]
        for view in frame.views:
            other = views[view.camera.name]
            np.testing.assert_allclose(view.T_world_camera, other.T_world_camera, atol=1e-9)
            np.testing.assert_array_equal(view.camera.K, other.camera.K)
            np.testing.assert_allclose(view.image, other.image, atol=2)
            assert view.stamp == other.stamp


def test_a_written_set_is_not_written_over(root, tmp_path):
    with pytest.raises(DatasetError, match=r"v1.0-mini exists"):
        write_nuscenes(root, [])
    with pytest.raises(DatasetError, match=r"scene-0061 has no frame with images"):
        write_nuscenes(tmp_path, [Drive("scene-0061", list(frames())[1:2], MOUNT, CAMERA_MOUNTS)])
    assert not (tmp_path / "v1.0-mini").exists()
