"""A Kinect's sequence by hand: what its depth says must lie where its colour image shows it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ov3d_perception.datasets.registry import open_dataset
from ov3d_perception.errors import DatasetError
from ov3d_perception.geometry.poses import invert


def write_sequence(folder: Path) -> None:
    """Two frames, the second half a metre to the right, of a wall 2 m ahead; one pixel has no depth."""
    for number in range(2):
        T = np.eye(4)
        T[0, 3] = 0.5 * number
        np.savetxt(folder / f"frame-{7 * number:06d}.pose.txt", T)
        Image.new("RGB", (640, 480)).save(folder / f"frame-{7 * number:06d}.color.jpg")
        depth = np.full((480, 640), 2000, np.uint16)
        depth[240, 320] = 65535
        cv2.imwrite(str(folder / f"frame-{7 * number:06d}.depth.png"), depth)


def test_depth_is_a_cloud_and_colour_its_view(tmp_path: Path) -> None:
    write_sequence(tmp_path)
    source = open_dataset("seven_scenes", tmp_path, stride=8)
    frame = source[1]
    (sweep,), (view,) = frame.sweeps, frame.views
    assert len(source) == 2 and source.sequences == (tmp_path.name,)
    assert len(sweep.scan) == 60 * 80 - 1  # one place has no depth
    np.testing.assert_allclose(sweep.scan.xyz[0], [-320 / 585 * 2, -240 / 585 * 2, 2.0], atol=1e-6)
    assert sweep.T_world_lidar[0, 3] == 0.5 and view.T_world_camera[0, 3] == pytest.approx(0.5 + 0.0249)
    assert sweep.scan.stamp == view.stamp == pytest.approx(7e9 / 30, abs=10)
    ahead = np.array([0.5, 0.0, 2.0, 1.0])  # of the depth camera: left of the colour camera's axis
    pixel = view.camera.K @ (invert(view.T_world_camera) @ ahead)[:3]
    assert pixel[0] / pixel[2] == pytest.approx(321.4 - 528.5 * 0.0249 / 2)


def test_missing_files_are_listed(tmp_path: Path) -> None:
    write_sequence(tmp_path)
    (tmp_path / "frame-000000.depth.png").unlink()
    (tmp_path / "frame-000007.color.jpg").unlink()
    with pytest.raises(DatasetError, match=r"(?s)000000: no depth image.*000007: no colour image"):
        open_dataset("seven_scenes", tmp_path)
    with pytest.raises(DatasetError, match="none"):
        open_dataset("seven_scenes", tmp_path / "empty")
