"""The real key frame against nuScenes' own counts, and a damaged copy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from real_data import data_dir

from ov3d_perception.datasets.nuscenes_keyframe import NuScenesKeyframe
from ov3d_perception.errors import DatasetError
from ov3d_perception.geometry.association import associate
from ov3d_perception.geometry.boxes import points_in_box
from ov3d_perception.geometry.occlusion import OcclusionTest
from ov3d_perception.types import UNLABELLED


@pytest.fixture(scope="module")
def folder() -> Path:
    shared = data_dir()
    if shared is None or not (shared / "nuscenes_keyframe").is_dir():
        pytest.skip("needs the nuScenes key frame in $OV3D_TEST_DATA/nuscenes_keyframe")
    return shared / "nuscenes_keyframe"


@pytest.fixture(scope="module")
def source(folder) -> NuScenesKeyframe:
    return NuScenesKeyframe(folder)


def test_the_known_number_of_points_falls_into_at_least_one_camera(source):
    pairs = associate(source[0])
    assert len(source) == 1 and len(source[0].views) == 6 and len(source[0].sweeps[0].scan) == 34_688
    assert len(np.unique(pairs.point)) == 20_206
    assert len(pairs) > 20_206, "neighbouring cameras overlap"


def test_axes_are_rep103(source):
    """The front camera looks along x of the sweep, the left ones to positive y; the ground is below."""
    frame = source[0]
    T_lidar_world = np.linalg.inv(frame.sweeps[0].T_world_lidar)
    looks = {view.camera.name: (T_lidar_world @ view.T_world_camera)[:3, 2] for view in frame.views}
    assert looks["cam_front"][0] > 0.99 and looks["cam_back"][0] < -0.99
    assert looks["cam_front_left"][1] > 0.5 and looks["cam_back_right"][1] < -0.5
    near = np.linalg.norm(frame.sweeps[0].scan.xyz[:, :2], axis=1)
    assert np.median(frame.sweeps[0].scan.xyz[(near > 4) & (near < 8), 2]) < -1.5


def test_every_view_has_its_own_stamp(source):
    frame = source[0]
    stamps = [view.stamp for view in frame.views]
    assert len(set(stamps)) == 6 and frame.sweeps[0].scan.stamp == 1_532_402_927_647_951_000
    assert max(abs(stamp - frame.sweeps[0].scan.stamp) for stamp in stamps) < 60_000_000


def test_boxes_hold_the_points_that_nuscenes_counted(source, folder):
    instances = json.loads((folder / "info.json").read_text())["data_list"][0]["instances"]
    counted = [instance["num_lidar_pts"] for instance in instances if instance["bbox_label_3d"] >= 0]
    xyz = source[0].sweeps[0].scan.xyz
    found = [int(points_in_box(xyz, box).sum()) for box in source.boxes(0)]
    assert len(found) == len(counted)
    assert np.abs(np.subtract(found, counted)).sum() <= 0.05 * sum(counted)


def test_labels_come_from_the_boxes(source):
    labels = source[0].labels
    truck = source.labelset.names.index("truck")
    assert (labels == truck).sum() > 300
    assert (labels == UNLABELLED).mean() > 0.9


def test_occlusion_drops_a_small_part_only(source):
    frame = source[0]
    everything, kept = associate(frame), associate(frame, occlusion=OcclusionTest(radius_px=(6, 15)))
    assert 0.85 * len(everything) < len(kept) < 0.99 * len(everything)


def test_missing_and_damaged_files_are_listed_together(folder, tmp_path):
    info = json.loads((folder / "info.json").read_text())
    del info["data_list"][0]["cam_instances"]
    info["data_list"][0]["ego2global"][0][0] = 9.0
    (tmp_path / "info.json").write_text(json.dumps(info))
    lidar = info["data_list"][0]["lidar_points"]["lidar_path"]
    (tmp_path / lidar).write_bytes(b"123")
    front = info["data_list"][0]["images"]["CAM_FRONT"]["img_path"]
    shutil.copy(folder / front, tmp_path / front)
    with pytest.raises(DatasetError) as caught:
        NuScenesKeyframe(tmp_path)
    text = str(caught.value)
    assert text.count(".jpg: missing") == 5 and "3 bytes" in text and "no rigid transform" in text
    (tmp_path / "info.json").write_text("{")
    with pytest.raises(DatasetError, match=r"info\.json"):
        NuScenesKeyframe(tmp_path)
