"""The demo's pictures and recording are written, and show what they are given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ov3d_perception.demo import pictures, recording
from ov3d_perception.demo.score import LabelledScan
from ov3d_perception.demo.truth import TrueScan
from ov3d_perception.geometry.boxes import Box
from ov3d_perception.mapping.navigation.costmap import Layout
from ov3d_perception.types import Camera, Frame, Scan, Sweep, View
from ov3d_perception.viz.palette import colour

NAMES = ("road", "car")


@pytest.fixture
def scan() -> Scan:
    rng = np.random.default_rng(0)
    xyz = rng.uniform((2, -4, -1), (12, 4, 1), (400, 3)).astype(np.float32)
    return Scan(xyz, np.zeros(400, np.float32), stamp=5)


@pytest.fixture
def frame(scan: Scan) -> Frame:
    """One camera at the LiDAR that looks forward."""
    T = np.eye(4)
    T[:3, :3] = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], float)
    camera = Camera("cam_front", 160, 90, np.array([[80.0, 0, 80], [0, 80, 45], [0, 0, 1]]))
    view = View(camera, T, np.full((90, 160, 3), 128, np.uint8), 5)
    return Frame("f", (Sweep(scan, np.eye(4)),), (view,))


def truth_of(scan: Scan) -> TrueScan:
    return TrueScan(scan, np.zeros(len(scan), np.int32), scan.xyz, np.eye(4))


def labelled(scan: Scan, label: int) -> LabelledScan:
    return LabelledScan(5, scan.xyz, np.full(len(scan), label, np.int32), np.ones(len(scan), np.float32))


def has_hue(image: np.ndarray, name: str) -> bool:
    """Some pixel has the direction of the class's colour (shading changes the brightness only)."""
    pixels, wanted = image.reshape(-1, 3).astype(float), np.array(colour(name), float)
    cosine = pixels @ wanted / (np.linalg.norm(pixels, axis=1) * np.linalg.norm(wanted) + 1e-9)
    return bool(((cosine > 0.999) & (pixels.max(1) > 60)).any())


def test_mask_shows_costs_where_they_lie(tmp_path: Path) -> None:
    """Sixty by thirty cells of 1 m, of which the left half is free and the right half dear."""
    values = np.zeros((30, 60), np.int8)
    values[:, 30:] = 100
    layout = Layout((0.0, 0.0), 1.0, 60, 30)
    path = pictures.draw_mask(tmp_path / "mask.png", layout, values, [np.eye(4)], {"puddle": 100})
    left, right = np.hsplit(np.asarray(Image.open(path)).astype(int)[400:500], 2)
    assert (left[..., 1] > left[..., 0]).mean() > 0.8, "green"
    assert (right[..., 0] > 2 * right[..., 1]).mean() > 0.8, "red"


def test_approach_is_drawn_in_the_middle_with_its_box(tmp_path: Path, scan: Scan) -> None:
    box = Box(np.array([8.0, 0.0, 0.0]), np.array([4.0, 2.0, 1.5]), 0.0, "car", "car 0.87")
    pose = np.eye(4)
    pose[0, 3] = 4.0
    labels = np.zeros(len(scan), np.int32)
    path = pictures.draw_approach(tmp_path / "approach.png", scan.xyz, labels, NAMES, pose, box, "car, 2.0 m")
    image = np.asarray(Image.open(path))
    assert image.shape == (900, 900, 3)
    assert image[445:455, 445:455].min() > 200, "the arrowhead is white"
    assert has_hue(image[400:500, 540:], "car"), "the box's tint, 4 m to the right"


def test_scan_shows_prediction_left_and_truth_right(tmp_path: Path, scan: Scan) -> None:
    path = pictures.draw_scan(tmp_path / "scan.png", labelled(scan, 1), truth_of(scan), NAMES, "")
    image = np.asarray(Image.open(path))
    left, right = np.hsplit(image[200:], 2)
    assert has_hue(left, "car") and not has_hue(left, "road")
    assert has_hue(right, "road") and not has_hue(right, "car")


def test_overlay_draws_only_in_front(tmp_path: Path, scan: Scan, frame: Frame) -> None:
    path = pictures.draw_overlay(tmp_path / "o.png", frame, np.ones(len(scan), np.int32), NAMES)
    image = np.asarray(Image.open(path))
    assert image.shape == (90, 160, 3)
    assert image.std() > 5


def test_a_larger_camera_image_is_shrunk_to_the_mean_of_its_pixels(tmp_path: Path, frame: Frame) -> None:
    """One pixel of each nine is white, drawn as 0.65 * 255 = 165: 18 in the mean, 0 in the middle of the nine."""
    small = frame.views[0]
    image = np.zeros((270, 480, 3), np.uint8)
    image[::3, ::3] = 255
    K = small.camera.K * [[3], [3], [1]]
    large = replace(small, camera=Camera("cam_front_left", 480, 270, K), image=image)
    behind = Sweep(Scan(np.float32([[-5, 0, 0]]), np.zeros(1, np.float32), stamp=5), np.eye(4))
    path = pictures.draw_overlay(tmp_path / "o.png", Frame("f", (behind,), (small, large)), np.ones(1, np.int32), NAMES)
    drawn = np.asarray(Image.open(path))
    assert drawn.shape == (90, 320, 3)
    assert np.all(drawn[:, :160] == 18)


def test_a_box_has_its_classes_colour_whatever_its_score(tmp_path: Path, scan: Scan, frame: Frame) -> None:
    """All points are road: the car's colour can come from the box alone."""
    box = Box(np.array([6.0, 0, 0]), np.array([4.0, 2, 1.5]), 0.3, "car", "car 0.90")
    labels = np.zeros(len(scan), np.int32)
    path = pictures.draw_map(tmp_path / "map.png", scan.xyz, labels, NAMES, [box], [np.eye(4)] * 2, "car: 1")
    assert has_hue(np.asarray(Image.open(path)), "car")
    assert Image.open(path).info["Description"] == "car: 1"
    without = pictures.draw_map(tmp_path / "bare.png", scan.xyz, labels, NAMES, [], [np.eye(4)] * 2, "")
    assert not has_hue(np.asarray(Image.open(without)), "car"), "the colour is the box's"
    scans, truth = [labelled(scan, 1)], {5: truth_of(scan)}
    rrd = recording.record(tmp_path / "d.rrd", scans, truth, [frame], (scan.xyz, labels), [box], NAMES)
    assert rrd.stat().st_size > 1000


def test_nearest_frame_by_stamp(frame: Frame, scan: Scan) -> None:
    late = Frame("late", (Sweep(Scan(scan.xyz, scan.intensity, stamp=100), np.eye(4)),))
    assert pictures.nearest_frame([frame, late], 60) is late
    assert pictures.nearest_frame([frame, late], 40) is frame
