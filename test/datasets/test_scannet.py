"""ScanNet: simulated rooms in its format are read back as they were made, packed or exported; what lacks is named."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from ov3d_perception.datasets.registry import open_dataset
from ov3d_perception.datasets.scannet import ScanNet
from ov3d_perception.datasets.sens import SensCalibration, SensFile, SensFrame, write_sens
from ov3d_perception.datasets.simulated_rooms import write_rooms
from ov3d_perception.errors import DatasetError, PointCloudError
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.lifting.pairs import pair
from ov3d_perception.recipes.specs import PairSpec
from ov3d_perception.types import UNLABELLED

SCENE = "scene0003_00"


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scannet")
    return write_rooms(root, "3", "1000", images=4, image_size=(96, 72), vertex_m=0.05)


def copied(rooms: Path, to: Path) -> Path:
    shutil.copytree(rooms, to / "copy")
    return to / "copy"


def export(folder: Path) -> None:
    """What SensReader's exporter makes of a file."""
    file = SensFile(folder / f"{folder.name}.sens")
    for name in ("color", "depth", "pose", "intrinsic"):
        (folder / name).mkdir()
    for number in range(len(file)):
        frame = file.frame(number)
        cv2.imwrite(str(folder / "color" / f"{number}.jpg"), frame.color[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])
        cv2.imwrite(str(folder / "depth" / f"{number}.png"), np.rint(frame.depth * 1000).astype(np.uint16))
        np.savetxt(folder / "pose" / f"{number}.txt", frame.T_world_camera, fmt="%f")
    K = np.eye(4)
    K[:3, :3] = file.calibration.K_color
    np.savetxt(folder / "intrinsic" / "intrinsic_color.txt", K, fmt="%f")
    (folder / f"{folder.name}.sens").unlink()


def test_a_room_is_a_cloud_with_labels_and_views_with_depth(rooms: Path) -> None:
    source = open_dataset("scannet", rooms, split="train", every=1)
    assert len(source) == 1 and source.sequences == (SCENE,)
    frame = source[0]
    scan = frame.sweeps[0].scan
    assert frame.labels is not None and len(frame.labels) == len(scan.xyz) > 3000
    assert scan.intensity.min() >= 0 and 0.3 < scan.intensity.max() <= 1
    floor = scan.xyz[frame.labels == source.labelset.names.index("floor"), 2]
    assert np.abs(floor).max() < 0.02, "NYU40's floor lies at z = 0"
    assert len(frame.views) == 4 and all(view.depth is not None for view in frame.views)


def test_points_are_seen_where_the_measured_depth_says(rooms: Path) -> None:
    """Whatever is paired lies at its pixel's depth; nearly every point is seen, and what is behind others is not."""
    frame = ScanNet(rooms, "train", every=1)[0]
    pairs = pair(frame, PairSpec(min_depth=0.2, max_depth=10))
    assert len(np.unique(pairs.point)) > 0.95 * len(frame.sweeps[0].scan.xyz)
    for number, view in enumerate(frame.views):
        assert view.depth is not None
        mine = pairs.camera == number
        column, row = np.rint(pairs.uv[mine]).astype(int).T
        there = view.depth[row.clip(0, 71), column.clip(0, 95)]
        assert (np.abs(pairs.depth[mine] - there) <= 0.05 * there + 1e-5).all()
    everything = pair(frame, PairSpec(min_depth=0.2, max_depth=10, occlusion=False))
    assert len(everything) > 1.05 * len(pairs), "else nothing was hidden in this room"


def test_exported_folders_are_read_as_the_packed_file(rooms: Path, tmp_path: Path) -> None:
    root = copied(rooms, tmp_path)
    packed = ScanNet(root, "train", every=2)[0]
    export(root / "scans" / SCENE)
    exported = ScanNet(root, "train", every=2)[0]
    assert len(packed.views) == len(exported.views) == 2
    for a, b in zip(packed.views, exported.views, strict=True):
        np.testing.assert_allclose(a.camera.K, b.camera.K, atol=1e-5)
        np.testing.assert_allclose(a.T_world_camera, b.T_world_camera, atol=1e-5)
        np.testing.assert_allclose(a.depth, b.depth, atol=6e-4)
        assert np.abs(a.image.astype(int) - b.image.astype(int)).mean() < 3


def test_large_images_are_made_smaller_with_their_camera(rooms: Path) -> None:
    """By halves: the ray through the corner of the image stays that ray."""
    small, large = (ScanNet(rooms, "train", every=4, height=height)[0].views[0] for height in (36, 480))
    assert small.image.shape == (36, 48, 3) and large.image.shape == (72, 96, 3)
    for view, corner in ((small, -0.5), (large, -0.5)):
        ray = (corner - view.camera.K[0, 2]) / view.camera.K[0, 0]
        assert ray == pytest.approx((-0.5 - large.camera.K[0, 2]) / large.camera.K[0, 0])


def test_images_without_a_pose_and_damaged_ones_are_left_out(rooms: Path, tmp_path: Path) -> None:
    root = copied(rooms, tmp_path)
    path = root / "scans" / SCENE / f"{SCENE}.sens"
    file = SensFile(path)
    taken = [file.frame(number) for number in range(len(file))]
    lost = SensFrame(taken[1].color, taken[1].depth, np.full((4, 4), -np.inf))
    sizes = file.calibration.color_size, file.calibration.depth_size
    write_sens(path, SensCalibration(file.calibration.K_color, file.calibration.K_depth, *sizes), [taken[0], lost])
    source = ScanNet(root, "train", every=1)
    assert len(source[0].views) == 1 and source.left_out["images without a pose"] == 1


def test_all_that_lacks_is_listed(rooms: Path, tmp_path: Path) -> None:
    root = copied(rooms, tmp_path)
    folder = root / "scans" / SCENE
    (folder / f"{SCENE}.sens").unlink()
    (folder / f"{SCENE}_vh_clean_2.labels.ply").unlink()
    with pytest.raises(DatasetError) as error:
        ScanNet(root, scenes=[SCENE, "scene0009_00"])
    listed = str(error.value)
    assert "5 missing" in listed and f"{SCENE}.sens" in listed and f"{SCENE}_vh_clean_2.labels.ply" in listed
    assert "scene0009_00_vh_clean_2.ply: missing" in listed
    assert len(ScanNet(root, scenes=[SCENE], labels=False, images=False)[0].views) == 0
    with pytest.raises(DatasetError, match=r"scannetv2_test\.txt"):
        ScanNet(root, "test")


def test_labels_of_another_mesh_are_an_error(rooms: Path, tmp_path: Path) -> None:
    root = copied(rooms, tmp_path)
    other = root / "scans" / "scene1000_00" / "scene1000_00_vh_clean_2.labels.ply"
    other.rename(root / "scans" / SCENE / f"{SCENE}_vh_clean_2.labels.ply")
    with pytest.raises(PointCloudError, match="no label for each"):
        ScanNet(root, "train")[0]


def test_label_sets_gather_nyu40() -> None:
    twenty, forty = LabelSet.load("scannet20"), LabelSet.load("scannet_nyu40")
    assert len(twenty) == 20 and len(forty) == 40
    assert twenty.names[int(twenty.map(np.array([28]))[0])] == "shower curtain"
    assert (twenty.map(np.array([0, 13, 40])) == UNLABELLED).all()
    assert forty.map(np.arange(1, 41)).tolist() == list(range(40))
