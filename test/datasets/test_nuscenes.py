"""The reader on a data set written out by hand from the published schema, and on every kind of incomplete download."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from nuscenes_by_hand import POINTS, RAW_LABELS, VERSION, edit, write_by_hand

from ov3d_perception.datasets import nuscenes_tables
from ov3d_perception.datasets.nuscenes import NuScenes
from ov3d_perception.datasets.registry import open_dataset
from ov3d_perception.datasets.splits import nuscenes_scenes
from ov3d_perception.errors import DatasetError, ImageError, PointCloudError
from ov3d_perception.geometry.association import associate
from ov3d_perception.geometry.poses import transform
from ov3d_perception.types import UNLABELLED

FRONT = {"split": "mini_train", "cameras": ["CAM_FRONT"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_by_hand(tmp_path)
    return tmp_path


def test_a_key_frame_by_hand(root):
    source = open_dataset("nuscenes", root, **FRONT)
    assert len(source) == 2 and source.sequences == ("scene-0061",)
    frame = source[0]
    assert frame.name == "scene-0061/000" and len(frame.sweeps) == len(frame.views) == 1
    scan = frame.sweeps[0].scan
    np.testing.assert_array_equal(scan.xyz, [[10, 0, 0], [10, -1, 0], [-10, 0, 0]])  # x forward, y left
    np.testing.assert_allclose(scan.intensity, [0.2, 1, 0])
    np.testing.assert_array_equal(scan.ring, [3, 4, 5])
    assert scan.stamp == 1_000_000_000 and frame.views[0].stamp == 1_000_010_000
    world = transform(frame.sweeps[0].T_world_lidar, scan.xyz.astype(float))
    np.testing.assert_allclose(world, [[100, 210, 2], [101, 210, 2], [100, 190, 2]], atol=1e-9)  # ahead is north
    names = source.labelset.names
    np.testing.assert_array_equal(frame.labels, [names.index("driveable_surface"), names.index("car"), UNLABELLED])
    np.testing.assert_allclose(frame.views[0].image[0, 0], [0, 0, 200], atol=3)  # RGB


def test_pixels_take_the_motion_between_sweep_and_exposure_into_account(root):
    pairs = associate(NuScenes(root, **FRONT)[0])
    depth = 10 - 0.2  # the car has gone 10 us / 50 us/m
    np.testing.assert_array_equal(pairs.point, [0, 1])
    np.testing.assert_allclose(pairs.depth, [depth, depth], atol=1e-5)
    expected = [[40, 20 - 50 * 0.5 / depth], [40 + 50 / depth, 20 - 50 * 0.5 / depth]]
    np.testing.assert_allclose(pairs.uv, expected, atol=1e-4)


@pytest.mark.parametrize(("sweeps", "stamps"), [(1, [150]), (3, [150, 100, 50]), (9, [150, 100, 50, 0])])
def test_sweeps_go_back_in_time_within_the_scene(root, sweeps, stamps):
    frame = NuScenes(root, sweeps=sweeps, images=False, **FRONT)[1]
    assert [sweep.scan.stamp // 1000 - 1_000_000 for sweep in frame.sweeps] == stamps
    norths = [sweep.T_world_lidar[1, 3] for sweep in frame.sweeps]
    np.testing.assert_allclose(norths, [200 + stamp / 50 for stamp in stamps])
    assert len(frame.labels) == len(frame.sweeps[0].scan) and frame.views == ()


def test_other_splits_scenes_and_sensors_are_not_needed(root):
    """scene-0103 of mini_val has no files at all, and five cameras are absent."""
    with pytest.raises(DatasetError, match=r"CAM_BACK/: missing"):
        NuScenes(root, split="mini_train")
    with pytest.raises(DatasetError, match=r"scene-0103/000 \(K3\) has no LIDAR_TOP, CAM_FRONT"):
        NuScenes(root, split="mini_val", cameras=["CAM_FRONT"])


def test_order_is_that_of_the_scene_table_and_of_time(root):
    def add(rows):
        rows.insert(0, {"token": "S0", "name": "scene-1100"})

    edit(root, "scene", add)
    edit(root, "sample", lambda rows: rows[0].update(scene_token="S0"))
    names = [frame.name for frame in NuScenes(root, images=False, **FRONT)]
    assert names == ["scene-1100/000", "scene-0061/000"]


def test_subsets_are_taken_of_what_is_asked(root):
    assert [frame.name for frame in NuScenes(root, subset="1%-keyframes", **FRONT)] == ["scene-0061/000"]
    with pytest.raises(DatasetError, match=r"1%-scenes of fewer than 100 scenes is empty"):
        NuScenes(root, subset="1%-scenes", **FRONT)
    with pytest.raises(DatasetError, match=r"subset='1%'.*1%-scenes or 1%-keyframes"):
        NuScenes(root, subset="1%", **FRONT)


def test_every_hundredth_scene_is_counted_in_the_tables_order(root):
    others = [name for name in nuscenes_scenes("train") if name != "scene-0061"]
    fillers = [{"token": name, "name": name} for name in others]
    edit(root, "scene", lambda rows: rows.__setitem__(slice(None), [*fillers[:99], rows[1], *fillers[99:]]))
    (root / VERSION).rename(root / "v1.0-trainval")
    shutil.copytree(root / "lidarseg" / VERSION, root / "lidarseg" / "v1.0-trainval")
    assert NuScenes(root, cameras=["CAM_FRONT"], subset="1%-scenes").sequences == ("scene-0061",)


def test_a_split_that_is_there_in_part_is_said(root, caplog):
    with caplog.at_level(logging.WARNING):
        NuScenes(root, **FRONT)
        assert "knows 1 of the 8 scenes of mini_train" in caplog.text
        caplog.clear()
        NuScenes(root, scenes=["scene-0061"], **FRONT)
    assert not caplog.text
    with pytest.raises(DatasetError, match=r"no scene scene-0103 of split mini_train"):
        NuScenes(root, scenes=["scene-0061", "scene-0103"], **FRONT)
    with pytest.raises(DatasetError, match=r"no scene of split test"):
        NuScenes(root, split="test", version=VERSION, cameras=["CAM_FRONT"])


def test_all_missing_pieces_of_a_download_are_in_one_error(root):
    for table in ("ego_pose", "lidarseg"):
        (root / VERSION / f"{table}.json").unlink()
    shutil.rmtree(root / "sweeps")
    shutil.rmtree(root / "samples" / "CAM_FRONT")
    with pytest.raises(DatasetError) as caught:
        NuScenes(root, sweeps=2, **FRONT)
    text = str(caught.value)
    assert text.startswith("4 missing")
    for piece in ("ego_pose.json", "lidarseg.json", "sweeps/LIDAR_TOP/", "samples/CAM_FRONT/"):
        assert piece in text
    assert "https://www.nuscenes.org/download" in text


def test_what_is_not_asked_for_is_not_needed(root):
    shutil.rmtree(root / "sweeps")
    shutil.rmtree(root / "samples" / "CAM_FRONT")
    shutil.rmtree(root / "lidarseg")
    (root / VERSION / "lidarseg.json").unlink()
    source = NuScenes(root, split="mini_train", images=False, labels=False)
    assert source.labelset is None and source[1].labels is None and len(source[1].sweeps) == 1


def test_another_version_is_named(root):
    with pytest.raises(DatasetError, match=r"v1.0-trainval/: not there, but v1.0-mini"):
        NuScenes(root, split="train", cameras=["CAM_FRONT"])


def test_missing_and_damaged_files_are_told_by_folder(root):
    (root / "samples" / "CAM_FRONT" / "c1000010.jpg").unlink()
    (root / "samples" / "CAM_FRONT" / "c1000160.jpg").unlink()
    (root / "samples" / "LIDAR_TOP" / "l0.pcd.bin").write_bytes(b"1234567")
    RAW_LABELS[:2].tofile(root / f"lidarseg/{VERSION}/L3_lidarseg.bin")
    with pytest.raises(DatasetError) as caught:
        NuScenes(root, **FRONT)
    text = str(caught.value)
    assert "samples/CAM_FRONT: missing: 2 files, such as samples/CAM_FRONT/c1000010.jpg (in scene-0061)" in text
    assert "no whole points of 20 bytes: 1 file, such as samples/LIDAR_TOP/l0.pcd.bin" in text
    assert "labels for another number of points: 1 file, such as lidarseg/v1.0-mini/L3_lidarseg.bin" in text


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("ego_pose", lambda rows: rows.pop(0), r"ego_pose.json: none for samples/LIDAR_TOP/l0"),
        ("ego_pose", lambda rows: rows[0].pop("rotation"), r"ego_pose.json: a row has no 'rotation'"),
        ("lidarseg", lambda rows: rows.pop(1), r"lidarseg.json: no labels for key frame scene-0061/001 \(K2\)"),
        ("calibrated_sensor", lambda rows: rows[0].update(rotation=[0, 0, 0, 0]), "cal-lidar.*no rigid transform"),
        ("calibrated_sensor", lambda rows: rows[1].update(camera_intrinsic=[]), "cal-front.*CAM_FRONT"),
        ("category", lambda rows: [row.pop("index") for row in rows], "32 of lidarseg's categories.*0 noise"),
        ("category", lambda rows: rows[25].update(name="flat.sidewalk"), "1 of lidarseg's categories.*25 flat.other"),
    ],
)
def test_inconsistent_tables(root, table, change, message):
    edit(root, table, change)
    with pytest.raises(DatasetError, match=message):
        NuScenes(root, **FRONT)


@pytest.mark.parametrize("table", ["scene", "sample_data"])
@pytest.mark.parametrize("content", ["{}", "[1]", "", '[{"token": "a"}'])
def test_tables_that_are_no_whole_list_of_rows(root, table, content):
    (root / VERSION / f"{table}.json").write_text(content)
    with pytest.raises(DatasetError, match=rf"{table}\.json"):
        NuScenes(root, **FRONT)


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_rows_do_not_depend_on_where_a_chunk_ends(root, monkeypatch, chunk):
    monkeypatch.setattr(nuscenes_tables, "_CHUNK", chunk)
    for table in ("ego_pose", "category"):
        path = root / VERSION / f"{table}.json"
        assert list(nuscenes_tables.rows(path)) == json.loads(path.read_text())


def test_a_single_missing_sweep_is_left_out_and_counted(root, caplog):
    (root / "sweeps" / "LIDAR_TOP" / "l2.pcd.bin").unlink()
    with caplog.at_level(logging.WARNING):
        source = NuScenes(root, sweeps=3, **FRONT)
    assert source.left_out == {"sweep between key frames that is missing": 1} and "l2.pcd.bin" in caplog.text
    assert [sweep.scan.stamp // 1000 for sweep in source[1].sweeps] == [1_000_150, 1_000_050]


def test_no_sweep_of_a_scene_is_a_missing_archive(root):
    for path in (root / "sweeps" / "LIDAR_TOP").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match=r"sweeps/LIDAR_TOP: no sweep at all of a scene: 1 file, such as .*l2"):
        NuScenes(root, sweeps=2, **FRONT)


def test_a_damaged_sweep_between_key_frames_is_left_out_and_counted(root):
    (root / "sweeps" / "LIDAR_TOP" / "l2.pcd.bin").write_bytes(b"1234567")
    source = NuScenes(root, sweeps=3, **FRONT)
    assert len(source[1].sweeps) == 2
    assert source.left_out == {"sweep between key frames that is damaged": 1}


def test_points_that_are_not_finite_are_left_out_with_their_labels(root):
    raw = POINTS.copy()
    raw[0, 2] = np.nan
    raw.tofile(root / "samples" / "LIDAR_TOP" / "l0.pcd.bin")
    source = NuScenes(root, **FRONT)
    frame = source[0]
    np.testing.assert_array_equal(frame.sweeps[0].scan.xyz, [[10, -1, 0], [-10, 0, 0]])
    np.testing.assert_array_equal(frame.sweeps[0].scan.source_index, [1, 2])
    np.testing.assert_array_equal(frame.labels, [source.labelset.names.index("car"), UNLABELLED])
    assert source.left_out == {"point that is not finite": 1}
    raw[:] = np.nan
    raw.tofile(root / "samples" / "LIDAR_TOP" / "l0.pcd.bin")
    with pytest.raises(PointCloudError, match=r"l0.pcd.bin has no finite point"):
        source[0]


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"no image", lambda data: b""])
def test_a_damaged_image_costs_its_view_and_all_of_them_the_frame(root, damage):
    edit(root, "sensor", lambda rows: rows.append({"token": "back", "channel": "CAM_BACK", "modality": "camera"}))
    mounted = {"token": "cal-back", "sensor_token": "back"}
    edit(root, "calibrated_sensor", lambda rows: rows.append({**rows[1], **mounted}))
    shutil.copytree(root / "samples" / "CAM_FRONT", root / "samples" / "CAM_BACK")

    def back(rows):
        for row in [row for row in rows if "samples/CAM_FRONT" in row["filename"]]:
            place = row["filename"].replace("CAM_FRONT", "CAM_BACK")
            rows.append({**row, "token": f"B{row['token']}", "calibrated_sensor_token": "cal-back", "filename": place})

    edit(root, "sample_data", back)
    source = NuScenes(root, split="mini_train", cameras=["CAM_FRONT", "CAM_BACK"])
    assert [view.camera.name for view in source[0].views] == ["cam_front", "cam_back"]
    front, behind = (root / "samples" / camera / "c1000010.jpg" for camera in ("CAM_FRONT", "CAM_BACK"))
    front.write_bytes(damage(front.read_bytes()))
    assert [view.camera.name for view in source[0].views] == ["cam_back"]
    assert source.left_out == {"image that does not decode": 1}
    behind.write_bytes(damage(behind.read_bytes()))
    with pytest.raises(ImageError, match=r"c1000010.jpg does not decode"):
        source[0]


def test_images_that_were_made_smaller_keep_their_geometry(root):
    path = root / "samples" / "CAM_FRONT" / "c1000010.jpg"
    cv2.imwrite(str(path), np.zeros((20, 40, 3), np.uint8))
    source = NuScenes(root, **FRONT)
    camera = source[0].views[0].camera
    assert (camera.width, camera.height) == (40, 20)
    np.testing.assert_allclose(camera.K, [[25, 0, 19.75], [0, 25, 9.75], [0, 0, 1]])


def test_wrong_options_are_refused(root):
    with pytest.raises(DatasetError, match=r"CAM_TOP"):
        NuScenes(root, split="mini_train", cameras=["CAM_TOP"])
    with pytest.raises(DatasetError, match=r"sweeps=0"):
        NuScenes(root, split="mini_train", sweeps=0)


def test_a_loader_may_take_it_to_another_process(root):
    source = pickle.loads(pickle.dumps(NuScenes(root, sweeps=2, **FRONT)))
    assert source[1].name == "scene-0061/001" and len(source[1].sweeps) == 2
