"""A small hand-made sequence with known geometry, the same damaged, and the real recording."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from real_data import data_dir

from ov3d_perception.datasets.pandaset import PandaSet
from ov3d_perception.errors import DatasetError, PointCloudError
from ov3d_perception.geometry.association import associate
from ov3d_perception.types import UNLABELLED

HALF = np.sqrt(0.5)


def pose(right: float, **quaternion: float) -> dict:
    return {"position": {"x": right, "y": 100.0, "z": 0.0}, "heading": {"w": 0, "x": 0, "y": 0, "z": 0, **quaternion}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two frames; the vehicle's own axes are the world's (x right, y forward), 1 m to the right in the second."""
    for name in ("lidar", "front_camera"):
        (tmp_path / "001" / name).mkdir(parents=True)
        (tmp_path / "001" / name / "timestamps.json").write_text("[100.0, 100.1]")
    for i in range(2):
        np.savez(
            tmp_path / "001" / "lidar" / f"{i:02d}.npz",
            xyz_world=np.array([[0, 110, 2], [1, 110, 2], [0, 120, 2], [np.nan, 0, 0]], np.float32),
            intensity=np.array([0, 51, 255, 1], np.uint8),
            time=np.full(4, 100.0),
            sensor=np.array([0, 0, 1, 0], np.uint8),
            label=np.array([13, 1, 7, 7], np.uint8),
        )
        cv2.imwrite(str(tmp_path / "001" / "front_camera" / f"{i:02d}.jpg"), np.zeros((1080, 1920, 3), np.uint8))
    (tmp_path / "001" / "lidar" / "poses.json").write_text(json.dumps([pose(0, w=1), pose(1, w=1)]))
    # the camera looks along the world's y: its x is x, its y is -z
    (tmp_path / "001" / "front_camera" / "poses.json").write_text(
        json.dumps([pose(0, w=HALF, x=-HALF), pose(1, w=HALF, x=-HALF)])
    )
    (tmp_path / "001" / "front_camera" / "intrinsics.json").write_text(
        json.dumps({"fx": 1000, "fy": 1000, "cx": 960, "cy": 540})
    )
    return tmp_path


def test_one_frame_by_hand(root):
    source = PandaSet(root)
    frame = source[0]
    np.testing.assert_allclose(frame.sweeps[0].scan.xyz, [[10, 0, 2], [10, -1, 2]], atol=1e-5)
    np.testing.assert_allclose(frame.sweeps[0].scan.intensity, [0, 0.2], rtol=1e-6)
    np.testing.assert_array_equal(frame.labels, [source.labelset.names.index("car"), UNLABELLED])
    np.testing.assert_array_equal(frame.sweeps[0].scan.source_index, [0, 1])
    assert frame.sweeps[0].scan.stamp == 100_000_000_000
    pairs = associate(frame)
    np.testing.assert_allclose(pairs.uv, [[960, 340], [1060, 340]], atol=1e-2)


def test_sensors_and_sweeps(root):
    frame = PandaSet(root, sensors=(0, 1), sweeps=2, images=False)[1]
    assert [len(sweep.scan) for sweep in frame.sweeps] == [3, 3] and frame.views == ()
    np.testing.assert_allclose(frame.sweeps[0].scan.xyz[0], [10, 1, 2], atol=1e-5)
    assert len(frame.labels) == 3
    with pytest.raises(DatasetError, match="sensor 2 is none of"):
        PandaSet(root, sensors=(2,))


def test_everything_missing_is_listed_at_once(root):
    drive = root / "001"
    (drive / "front_camera" / "01.jpg").unlink()
    (drive / "lidar" / "timestamps.json").unlink()
    np.savez(drive / "lidar" / "01.npz", xyz_world=np.zeros((1, 3)))
    (drive / "lidar" / "00.npz").write_bytes(b"no archive")
    (drive / "front_camera" / "poses.json").write_text(json.dumps([pose(0)]))
    (drive / "front_camera" / "intrinsics.json").write_text(json.dumps({"fx": 0, "fy": 1, "cx": 0, "cy": 0}))
    with pytest.raises(DatasetError) as caught:
        PandaSet(root, sequences=["001", "044"])
    text = str(caught.value)
    for expected in (
        "01.jpg: missing",
        "lidar/timestamps.json: missing",
        "01.npz: no array 'label'",
        "00.npz: ",
        "quaternion",
        "intrinsics.json",
        "044/lidar/*.npz: missing",
    ):
        assert expected in text


def test_what_json_and_archives_may_hold_instead(root):
    drive = root / "001"
    (drive / "lidar" / "._00.npz").write_bytes(b"Mac OS X")
    assert len(PandaSet(root)) == 2
    arrays = dict(np.load(drive / "lidar" / "00.npz"))
    np.savez(drive / "lidar" / "00.npz", **arrays | {"intensity": arrays["intensity"][:3]})
    with pytest.raises(PointCloudError, match=r"arrays of .*00.npz have different lengths"):
        PandaSet(root)[0]
    for name, content, said in (
        ("lidar/timestamps.json", '["now", "later"]', "timestamps.json: could not convert"),
        ("front_camera/intrinsics.json", "[]", "intrinsics.json: list"),
    ):
        before = (drive / name).read_text()
        (drive / name).write_text(content)
        with pytest.raises(DatasetError, match=said):
            PandaSet(root)
        (drive / name).write_text(before)
    np.savez(drive / "lidar" / "last.npz", **arrays)
    with pytest.raises(DatasetError, match=r"lidar/last.npz: the name is no number"):
        PandaSet(root)


def test_the_real_recording():
    folder = data_dir()
    if folder is None or not (folder / "pandaset").is_dir():
        pytest.skip("needs PandaSet in $OV3D_TEST_DATA/pandaset")
    source = PandaSet(folder / "pandaset", sweeps=2)
    assert len(source) == 8 and source.sequences == ("001", "002")
    frame = source[1]
    assert len(frame.sweeps) == 2 and len(frame.labels) == len(frame.sweeps[0].scan) > 100_000
    road = frame.sweeps[0].scan.xyz[frame.labels == source.labelset.names.index("road")]
    near = np.linalg.norm(road[:, :2], axis=1) < 15
    assert abs(np.median(road[near, 2])) < 0.3
    assert (np.linalg.inv(frame.sweeps[0].T_world_lidar) @ frame.views[0].T_world_camera)[0, 2] > 0.99
    pairs = associate(frame)
    assert 12_000 < (pairs.sweep == 0).sum() < 16_000
