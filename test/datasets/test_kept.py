"""Frames kept in files: what comes back, what is kept from training, and what is damaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ov3d_perception.datasets.kept import Kept, describe, is_exam, load_frame, read_about, save_frame
from ov3d_perception.errors import DatasetError
from ov3d_perception.types import UNLABELLED, Camera, Frame, Preparation, Scan, Sweep, View


def frame(name: str = "drive/000001", labels: bool = True) -> Frame:
    rng = np.random.default_rng(0)
    scan = Scan(
        rng.normal(size=(9, 3)).astype(np.float32), np.full(9, 0.5, np.float32), 7, "velodyne", R_upright=np.eye(3)
    )
    T = np.eye(4)
    T[:3, 3] = 1, 2, 3
    camera = Camera("front", 32, 24, np.diag([20.0, 20.0, 1.0]), "fisheye", np.array([0.1, 0.2, 0.3, 0.4]))
    image = np.tile(np.arange(32, dtype=np.uint8) * 7, (24, 1))
    view = View(camera, 2 * T, np.stack([image, image, image], 2), 11)
    truth = np.array([0, 1, UNLABELLED] * 3, np.int32) if labels else None
    return Frame(name, (Sweep(scan, T), Sweep(scan, 3 * T)), (view,), truth)


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    sent = frame()
    save_frame(tmp_path / "a.npz", sent, {"descriptor": np.arange(3)})
    back = load_frame(tmp_path / "a.npz")
    assert back.name == sent.name and len(back.sweeps) == 2
    for one, two in zip(sent.sweeps, back.sweeps, strict=True):
        np.testing.assert_array_equal(one.scan.xyz, two.scan.xyz)
        np.testing.assert_array_equal(one.scan.intensity, two.scan.intensity)
        np.testing.assert_array_equal(one.T_world_lidar, two.T_world_lidar)
        assert (two.scan.stamp, two.scan.frame_id) == (7, "velodyne")
        np.testing.assert_array_equal(two.scan.R_upright, np.eye(3))
    (view,), (other,) = sent.views, back.views
    assert (other.camera.name, other.camera.width, other.camera.model, other.stamp) == ("front", 32, "fisheye", 11)
    np.testing.assert_array_equal(other.camera.K, view.camera.K)
    np.testing.assert_array_equal(other.camera.distortion, view.camera.distortion)
    np.testing.assert_array_equal(other.T_world_camera, view.T_world_camera)
    assert np.abs(other.image.astype(int) - view.image).max() < 12, "JPEG"
    np.testing.assert_array_equal(back.labels, sent.labels)
    np.testing.assert_array_equal(read_about(tmp_path / "a.npz", "descriptor"), np.arange(3))


def test_measured_depth_comes_back_in_millimetres(tmp_path: Path) -> None:
    """Nothing measured stays nothing; so does what sixteen bits cannot hold."""
    sent = frame()
    depth = np.array([[0.0, 1.2344, 2.5, 65.535], [70.0, 0.001, 10.0, 3.0]], np.float32)
    save_frame(tmp_path / "a.npz", replace(sent, views=(replace(sent.views[0], depth=depth),)))
    back = load_frame(tmp_path / "a.npz").views[0].depth
    assert back is not None and back.dtype == np.float32
    np.testing.assert_allclose(back, [[0.0, 1.234, 2.5, 65.535], [0.0, 0.001, 10.0, 3.0]], atol=1e-6)
    save_frame(tmp_path / "b.npz", sent)
    assert load_frame(tmp_path / "b.npz").views[0].depth is None


def test_a_frame_without_labels(tmp_path: Path) -> None:
    save_frame(tmp_path / "a.npz", frame(labels=False))
    assert load_frame(tmp_path / "a.npz").labels is None


def test_training_and_exam_are_two_parts_of_all(tmp_path: Path) -> None:
    for number in range(4):
        save_frame(tmp_path / f"{'exam_' * (number == 3)}{number:04d}.npz", frame(f"d/{number}"))
    describe(tmp_path, "street", Preparation(deskew=True))
    taught, exam, both = (Kept(tmp_path, part) for part in ("train", "exam", "all"))
    assert sorted([*taught.paths, *exam.paths]) == both.paths and len(taught) == 3
    assert [path.stem for path in exam.paths] == ["exam_0003"] and is_exam("exam_0003")
    assert both.labelset is not None and len(both.labelset.names) == 16 and both.preparation.deskew
    assert [one.name for one in both] == [f"d/{number}" for number in range(4)]


def test_what_is_damaged_is_an_error_of_its_frame(tmp_path: Path) -> None:
    save_frame(tmp_path / "a.npz", frame())
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError, match="cannot be read"):
        Kept(tmp_path)[0]
    with pytest.raises(DatasetError, match="no folder"):
        Kept(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="train, exam or all"):
        Kept(tmp_path, "half")
