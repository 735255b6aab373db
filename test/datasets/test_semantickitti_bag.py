"""A sequence folder as a bag: every number comes back, and the transforms put the points where KITTI puts them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from real_data import data_dir

from ov3d_perception.bags.camera_info import fit_to_images
from ov3d_perception.bags.images import decode_image, encode_png
from ov3d_perception.bags.pointcloud2 import decode, structured
from ov3d_perception.bags.reader import Bag, open_bag
from ov3d_perception.datasets.semantickitti_bag import from_semantickitti
from ov3d_perception.errors import DatasetError

P2 = np.array([[700.0, 0, 600, 42.0], [0, 700, 180, 0], [0, 0, 1, 0]])
TR = np.array([[0.0, -1, 0, 0.01], [0, 0, -1, -0.08], [1, 0, 0, -0.27]])


@pytest.fixture
def sequence(tmp_path: Path) -> Path:
    """Two scans; the car drives 1 m ahead (camera z) between them."""
    folder = tmp_path / "sequences" / "04"
    for name in ("velodyne", "image_2", "labels"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(2):
        rng.uniform(1, 9, (7, 4)).astype(np.float32).tofile(folder / "velodyne" / f"{index:06d}.bin")
        (np.arange(7, dtype=np.uint32) + (9 << 16)).tofile(folder / "labels" / f"{index:06d}.label")
        picture = np.full((30, 40, 3), 80 * index, np.uint8)
        (folder / "image_2" / f"{index:06d}.png").write_bytes(encode_png(picture).tobytes())
    rows = {"P2": P2, "Tr": TR}
    (folder / "calib.txt").write_text(
        "".join(f"{key}: {' '.join(map(str, value.ravel()))}\n" for key, value in rows.items())
    )
    poses = np.stack([np.eye(4)[:3], np.eye(4)[:3]])
    poses[1, 2, 3] = 1.0
    np.savetxt(folder / "poses.txt", poses.reshape(2, 12))
    (folder / "times.txt").write_text("0.0\n0.1\n")
    return tmp_path


def read(bag: Bag, topic: str) -> list:
    return [message.decode() for message in bag.messages([topic])]


def test_points_labels_and_images_come_back(sequence: Path, tmp_path: Path) -> None:
    with open_bag(from_semantickitti(sequence, "04", tmp_path / "bag")) as bag:
        raw = np.fromfile(sequence / "sequences/04/velodyne/000001.bin", np.float32).reshape(-1, 4)
        points = structured(read(bag, "/points")[1])
        for column, name in enumerate(("x", "y", "z", "intensity")):
            np.testing.assert_array_equal(points[name], raw[:, column])
        truth = structured(read(bag, "/ground_truth/points")[1])
        np.testing.assert_array_equal(truth["label"], np.arange(7))
        np.testing.assert_array_equal(truth["instance"], np.full(7, 9))
        assert decode_image(read(bag, "/cam_2/image_raw/compressed")[1]).mean() == 80
        camera, note = fit_to_images(read(bag, "/cam_2/camera_info")[0], "cam_2", (40, 30))
        assert note == ""
        np.testing.assert_array_equal(camera.K, P2[:, :3])
        assert (camera.width, camera.height) == (40, 30)


def test_transforms_reproduce_the_projection(sequence: Path, tmp_path: Path) -> None:
    """KITTI: u, v ~ P2 Tr x. Ours: K T_cam2_lidar x."""
    with open_bag(from_semantickitti(sequence, "04", tmp_path / "bag")) as bag:
        tree = bag.transforms()
    x = np.array([8.0, 1.0, -0.5, 1.0])
    u, v, w = P2 @ np.vstack([TR, [0, 0, 0, 1]]) @ x
    p = P2[:, :3] @ (tree.lookup("cam_2_optical", "lidar") @ x)[:3]
    np.testing.assert_allclose(p[:2] / p[2], [u / w, v / w], atol=1e-6)


def test_the_car_drives_forward(sequence: Path, tmp_path: Path) -> None:
    with open_bag(from_semantickitti(sequence, "04", tmp_path / "bag")) as bag:
        tree = bag.transforms()
        odometry = read(bag, "/odom")
        first, last = bag.start, bag.end
    np.testing.assert_allclose(tree.lookup("odom", "base_link", first), np.eye(4), atol=1e-9)
    np.testing.assert_allclose(tree.lookup("odom", "base_link", last)[:3, 3], [1.0, 0.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(tree.lookup("map", "lidar", last)[:3, 3], [1.0, 0.0, 1.73], atol=1e-9)
    assert odometry[1].pose.pose.position.x == pytest.approx(1.0)
    assert (last - first) == 100_000_000


def test_jpeg(sequence: Path, tmp_path: Path) -> None:
    with open_bag(from_semantickitti(sequence, "04", tmp_path / "bag", image_format="jpeg")) as bag:
        message = read(bag, "/cam_2/image_raw/compressed")[1]
    assert message.format == "jpeg" and message.data[:2].tobytes() == b"\xff\xd8"
    assert abs(int(decode_image(message)[0, 0, 0]) - 80) <= 2


def test_everything_missing_is_listed(sequence: Path, tmp_path: Path) -> None:
    (sequence / "sequences/04/poses.txt").unlink()
    (sequence / "sequences/04/image_2/000001.png").unlink()
    with pytest.raises(DatasetError, match=r"(?s)poses\.txt: missing.*image_2/000001\.png: missing"):
        from_semantickitti(sequence, "04", tmp_path / "bag")
    assert not (tmp_path / "bag").exists()
    with pytest.raises(DatasetError, match=r"(?s)calib\.txt.*velodyne"):
        from_semantickitti(sequence, "99", tmp_path / "bag")


def test_inconsistent_lengths(sequence: Path, tmp_path: Path) -> None:
    (sequence / "sequences/04/times.txt").write_text("0.0\n")
    with pytest.raises(DatasetError, match="2 poses and 1 times, the last scan is 000001"):
        from_semantickitti(sequence, "04", tmp_path / "bag")


def test_real_sequence_accumulates_sharply(tmp_path: Path) -> None:
    """With right poses and extrinsics a street's scans coincide: what stands still is found again in the next one."""
    if (data := data_dir()) is None:
        pytest.skip("no shared test data")
    from scipy.spatial import cKDTree

    with open_bag(from_semantickitti(data / "semantickitti", "00", tmp_path / "bag")) as bag:
        tree = bag.transforms()
        scans = [decode(message) for message in read(bag, "/points")[:5:4]]
    worlds = [s.xyz @ (T := tree.lookup("odom", "lidar", s.stamp))[:3, :3].T + T[:3, 3] for s in scans]
    high = [world[(world[:, 2] > 1.0) & (np.abs(world[:, :2]).max(1) < 20)] for world in worlds]
    moved, still = cKDTree(high[0]).query(high[1])[0], cKDTree(scans[0].xyz).query(scans[1].xyz[::50])[0]
    assert np.median(moved) < 0.08
    assert np.median(moved) < np.median(still)
