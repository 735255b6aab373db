"""Posed images from files of other programs: each format gives back the cameras that were written into it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from ov3d_perception.bags import messages
from ov3d_perception.bags.images import encode_jpeg
from ov3d_perception.bags.writer import BagWriter
from ov3d_perception.clouds.write import write_cloud
from ov3d_perception.errors import DatasetError
from ov3d_perception.fields.rays import camera_rays
from ov3d_perception.fields.scene import Scene, space_of
from ov3d_perception.fields.sources import load_scene
from ov3d_perception.fields.sources.colmap import _camera_from_world
from ov3d_perception.fields.sources.llff import load_llff, pose_row
from ov3d_perception.fields.sources.simulated import write_still_life
from ov3d_perception.sim.still_life import carried_camera
from ov3d_perception.types import UNLABELLED, Camera, View


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "desk"
    write_still_life(folder, 3, 7, (64, 48))
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "desk"))


def as_llff(folder: Path) -> Path:
    (folder / "transforms.json").unlink()
    return folder


def test_the_data_sets_format_and_nerfstudios_say_the_same(folder: Path) -> None:
    camera, poses = carried_camera(7, (64, 48))
    for scene in (load_scene(folder), load_llff(folder)):
        assert len(scene.views) == 7 and scene.names[3] == "03"
        for view, T in zip(scene.views, poses, strict=True):
            np.testing.assert_allclose(view.T_world_camera, T, atol=1e-9)
            np.testing.assert_allclose(view.camera.K, camera.K, atol=1e-9)
        assert scene.test == (1, 2, 3, 4, 5) and scene.training == [0, 6]
        assert "barrier" in scene.classes and set(scene.masks) == set(scene.test)
        assert not (scene.masks[1] == UNLABELLED).any()
    assert load_llff(folder).depths is not None and load_scene(folder).box is not None


def test_resized_images_get_the_focal_length_of_their_size(folder: Path) -> None:
    for file in (folder / "images").iterdir():
        Image.open(file).resize((32, 24)).save(file)
    whole = carried_camera(7, (64, 48))[0]
    view = load_llff(folder).views[0]
    assert view.camera.width == 32 and view.camera.K[0, 0] == pytest.approx(whole.K[0, 0] / 2)
    assert load_scene(folder).views[0].camera.K[0, 2] == pytest.approx(15.5)


def test_what_is_wrong_with_a_folder_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="There is no"):
        load_scene(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"holds no posed images.*transforms.json"):
        load_scene(tmp_path / "empty")
    (folder / "segmentations" / "02" / "barrier.png").unlink()
    with pytest.raises(DatasetError, match=r"lacks 02/barrier.png.*black where"):
        load_scene(folder)
    shutil.rmtree(folder / "segmentations")
    (folder / "images" / "00.png").unlink()
    with pytest.raises(DatasetError, match=r"\(7, 17\) numbers for 6 images"):
        load_llff(folder)


def test_too_few_images_and_images_of_two_sizes_are_refused(folder: Path) -> None:
    scene = load_scene(folder)
    with pytest.raises(DatasetError, match=r"has 2 posed images.*needs 3"):
        Scene("two", scene.views[:2], scene.names[:2])
    other = View(Camera("c", 8, 6, np.eye(3)), np.eye(4), np.zeros((6, 8, 3), np.uint8))
    with pytest.raises(DatasetError, match="sizes 8 x 6, 64 x 48"):
        Scene("mixed", (*scene.views[:3], other), (*scene.names[:3], "other"))


def test_transforms_with_a_lens_are_undistorted(folder: Path) -> None:
    path = folder / "transforms.json"
    content = json.loads(path.read_text())
    straight = load_scene(folder).views[0].image.astype(float)
    path.write_text(json.dumps(content | {"k1": -0.2}))
    assert np.abs(load_scene(folder).views[0].image - straight).mean() > 1
    path.write_text(json.dumps({"frames": content["frames"]}))
    with pytest.raises(DatasetError, match="lacks intrinsics or a pose"):
        load_scene(folder)
    path.write_text("{")
    with pytest.raises(DatasetError, match="cannot be read"):
        load_scene(folder)


def test_every_coefficient_of_a_lens_bends_the_image(folder: Path) -> None:
    """k3 bends r^6 as OpenCV's fifth coefficient does: Metashape and COLMAP's FULL_OPENCV have it."""
    path = folder / "transforms.json"
    content = json.loads(path.read_text())
    plain = load_scene(folder).views[0]
    path.write_text(json.dumps(content | {"k1": -0.1, "k3": 0.8, "p1": 0.01}))
    bent = cv2.undistort(plain.image, plain.camera.K, np.array([-0.1, 0, 0.01, 0, 0.8]))
    assert (load_scene(folder).views[0].image == bent).all()
    for fisheye in ({"camera_model": "OPENCV_FISHEYE"}, {"is_fisheye": True}):
        path.write_text(json.dumps(content | fisheye | {"k1": -0.1, "k4": 0.2}))
        K, D = plain.camera.K, np.array([-0.1, 0, 0, 0.2])
        assert (load_scene(folder).views[0].image == cv2.fisheye.undistortImage(plain.image, K, D, Knew=K)).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"camera_model": "EQUIRECTANGULAR"}, "camera_model EQUIRECTANGULAR, which is not read"),
        ({"k4": 0.1}, "k4 = 0.1, which is not read"),
        ({"frames": [{"file_path": 3}]}, "no file_path"),
        ({"frames": ["images/00.png"]}, "no file_path"),
        ({"frames": [{"file_path": "images/00.png", "transform_matrix": (2 * np.eye(4)).tolist()}]}, "no rigid"),
    ],
)
def test_transforms_that_would_be_read_wrongly_are_refused(folder: Path, change: dict, said: str) -> None:
    path = folder / "transforms.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DatasetError, match=said):
        load_scene(folder)


def test_points_of_a_survey_stay_in_the_frame_of_the_poses(folder: Path) -> None:
    path, site = folder / "transforms.json", np.array([500123.25, 5300123.5, 12.0])
    content = json.loads(path.read_text())
    points = site + np.random.default_rng(0).uniform(-1, 1, (10, 3))
    rgb, columns = np.zeros((10, 3), np.uint8), {}
    write_cloud(folder / "points.ply", points, rgb, columns)
    frames = [
        frame
        | {"transform_matrix": (np.array(frame["transform_matrix"]) + np.pad(site[:, None], ((0, 1), (3, 0)))).tolist()}
        for frame in content["frames"]
    ]
    path.write_text(json.dumps(content | {"ply_file_path": "points.ply", "frames": frames}))
    scene = load_scene(folder)
    assert scene.points is not None
    np.testing.assert_allclose(scene.points, points, atol=1e-6)


def test_seven_scenes_poses_are_of_the_colour_camera(tmp_path: Path) -> None:
    depth = np.full((480, 640), 2000, np.uint16)
    for number in range(12):
        T = np.eye(4)
        T[0, 3] = 0.1 * number
        stem = f"frame-{number:06d}"
        np.savetxt(tmp_path / f"{stem}.pose.txt", T)
        Image.fromarray(np.zeros((480, 640, 3), np.uint8)).save(tmp_path / f"{stem}.color.jpg")
        cv2.imwrite(str(tmp_path / f"{stem}.depth.png"), depth)
    scene = load_scene(tmp_path)
    assert scene.views[1].T_world_camera[0, 3] == pytest.approx(0.1 + 0.0249)
    assert scene.test == (5,) and scene.depths is not None and scene.points is not None
    assert scene.points[:, 2].tolist() == pytest.approx([2.0] * len(scene.points))
    (tmp_path / "frame-000003.color.jpg").unlink()
    with pytest.raises(DatasetError, match="no image of frame-000003"):
        load_scene(tmp_path)


def test_a_colmap_model_gives_cameras_points_and_depths(folder: Path) -> None:
    pytest.importorskip("pycolmap", reason="reads COLMAP's models: pip install pycolmap")
    scene = load_scene(folder)
    shutil.rmtree(folder / "segmentations")
    (folder / "transforms.json").unlink()
    (folder / "poses_bounds.npy").unlink()
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    K = scene.views[0].camera.K
    (model / "cameras.txt").write_text(f"1 PINHOLE 64 48 {K[0, 0]} {K[1, 1]} {K[0, 2] + 0.5} {K[1, 2] + 0.5}\n")
    points = np.random.default_rng(0).uniform([-1, -1, 0], [1, 1, 1], (20, 3))
    lines, tracks = [], [""] * len(points)
    for number, view in enumerate(scene.views):
        T = np.linalg.inv(view.T_world_camera)
        x, y, z, w = Rotation.from_matrix(T[:3, :3]).as_quat()
        seen = " ".join(f"1 1 {n + 1}" for n in range(len(points)))
        lines.append(f"{number + 1} {w} {x} {y} {z} {T[0, 3]} {T[1, 3]} {T[2, 3]} 1 {number:02d}.png\n{seen}\n")
        tracks = [f"{track} {number + 1} {n}" for n, track in enumerate(tracks)]
    (model / "images.txt").write_text("".join(lines))
    rows = zip(points, tracks, strict=True)
    (model / "points3D.txt").write_text(
        "".join(f"{n + 1} {p[0]} {p[1]} {p[2]} 0 0 0 0.1{track}\n" for n, (p, track) in enumerate(rows))
    )
    found = load_scene(folder)
    for a, b in zip(found.views, scene.views, strict=True):
        np.testing.assert_allclose(a.T_world_camera, b.T_world_camera, atol=1e-6)
        np.testing.assert_allclose(a.camera.K, b.camera.K, atol=1e-6)
    assert found.points is not None and len(found.points) == 20 and found.depths is not None
    assert 3 < found.depths.min() < found.depths.max() < 9


def test_a_colmap_pose_of_few_digits_is_a_rotation() -> None:
    """pycolmap hands on the quaternion of the file: 0.707 twice is a quarter turn, 0.02 % too short."""
    rotation = SimpleNamespace(quat=np.array([0, 0, 0.707, 0.707]))
    pose = SimpleNamespace(rotation=rotation, translation=np.array([1.0, 2, 3]))
    expected = [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]
    found = _camera_from_world(SimpleNamespace(cam_from_world=lambda: pose))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_rows_of_poses_come_back(folder: Path) -> None:
    view = load_scene(folder).views[2]
    row = pose_row(view, (1.0, 9.0))
    assert row.shape == (17,) and row[15:].tolist() == [1, 9] and row[[4, 9, 14]].tolist()[:2] == [48, 64]


def test_a_space_holds_what_the_cameras_see(folder: Path) -> None:
    scene = load_scene(folder)
    assert space_of(scene).ndc is None and space_of(scene).box.tolist()[0] == pytest.approx([-5.5, -6.7, -0.3])
    warped = space_of(load_llff(as_llff(folder)))
    assert warped.ndc is not None
    for view in scene.views:
        rays = camera_rays(view.camera, view.T_world_camera, warped.ndc)
        far = rays.origins + (1 - rays.origins[:, 2:]) / rays.directions[:, 2:] * rays.directions
        for ends in (rays.origins, far):
            assert bool((ends >= warped.box[0] - 1e-4).all()) and bool((ends <= warped.box[1] + 1e-4).all())
    with pytest.raises(DatasetError, match="no space 'ball'"):
        space_of(scene, "ball")


def test_a_box_can_be_named_where_nothing_says_how_far_cameras_see() -> None:
    views = tuple(View(Camera("c", 4, 4, np.eye(3)), np.eye(4), np.zeros((4, 4, 3), np.uint8)) for _ in range(3))
    ahead = Scene("ahead", views, ("a", "b", "c"))
    with pytest.raises(DatasetError, match=r"look the same way.*--set images.box=\[x0"):
        space_of(ahead)
    assert ahead.boxed(()) is ahead
    assert space_of(ahead.boxed((-1, -2, 0, 3, 2, 1))).box.tolist() == [[-1, -2, 0], [3, 2, 1]]
    for wrong in ((0, 0, 0, 1, 1), (0, 0, 0, 1, 1, 0)):
        with pytest.raises(DatasetError, match="six numbers"):
            ahead.boxed(wrong)


def test_smaller_images_see_the_same(folder: Path) -> None:
    scene = load_scene(folder)
    half = scene.downsampled(2)
    assert half.views[0].image.shape == (24, 32, 3) and half.masks[2].shape == (24, 32)
    whole = camera_rays(scene.views[0].camera, scene.views[0].T_world_camera).directions.reshape(48, 64, 3)
    small = camera_rays(half.views[0].camera, half.views[0].T_world_camera).directions.reshape(24, 32, 3)
    between = whole.reshape(24, 2, 32, 2, 3).mean((1, 3))
    np.testing.assert_allclose(small, between / between.norm(dim=2, keepdim=True), atol=1e-4)


def test_fewer_views_keep_all_test_views() -> None:
    views = tuple(View(Camera("c", 4, 4, np.eye(3)), np.eye(4), np.zeros((4, 4, 3), np.uint8)) for _ in range(20))
    scene = Scene("many", views, tuple(str(n) for n in range(20)), masks={5: np.zeros((4, 4), np.int32)}, test=(5,))
    thin = scene.thinned(0.5)
    assert len(thin.training) == 10 and thin.names[thin.test[0]] == "5" and set(thin.masks) == set(thin.test)


def test_a_bags_images_have_their_poses(folder: Path, tmp_path: Path) -> None:
    """A camera with a lens, carried through map; before its way begins there is an image without a pose."""
    views = load_scene(folder).views
    second = 1_000_000_000
    lens = replace(views[0].camera, distortion=np.array([-0.1, 0.0, 0.0, 0.0, 0.0]))
    with BagWriter(tmp_path / "bag") as bag:
        for number, view in enumerate((views[0], *views)):
            stamp = (number + 10) * second
            if number:
                bag.write("/tf", messages.tf_message([("map", "eye_optical", stamp, view.T_world_camera)]), stamp)
            image = messages.compressed_image(encode_jpeg(view.image), "jpeg", stamp, "eye_optical")
            bag.write("/eye/image_raw/compressed", image, stamp)
            bag.write("/eye/camera_info", messages.camera_info(lens, stamp, "eye_optical"), stamp)
    scene = load_scene(tmp_path / "bag", ("/eye",))
    assert [view.stamp // second for view in scene.views] == list(range(11, 18))
    for found, view in zip(scene.views, views, strict=True):
        assert not np.any(found.camera.distortion)
        np.testing.assert_allclose(found.T_world_camera, view.T_world_camera, atol=1e-6)
        assert np.abs(found.image.astype(float) - view.image).mean() > 1  # undistorted
    with pytest.raises(DatasetError, match="no camera"):
        load_scene(tmp_path / "bag", ("/roof",))
