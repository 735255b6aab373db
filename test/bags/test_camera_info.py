"""CameraInfo in and out, binning and regions against what the pixels themselves do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from ov3d_perception.bags import messages
from ov3d_perception.bags.camera_info import camera_in_frame, fit_to_images
from ov3d_perception.errors import CalibrationError
from ov3d_perception.geometry.cameras import project, resized
from ov3d_perception.geometry.poses import invert, transform
from ov3d_perception.types import Camera

K = np.array([[700.0, 0.0, 319.5], [0.0, 710.0, 239.5], [0.0, 0.0, 1.0]])


def info(**other: Any) -> SimpleNamespace:
    values = {
        "width": 640,
        "height": 480,
        "distortion_model": "plumb_bob",
        "d": [0.1, -0.2, 0.001, 0.002, 0.05],
        "k": K.reshape(-1),
        "r": np.eye(3).reshape(-1),
        "p": np.hstack([K, np.zeros((3, 1))]).reshape(-1),
        "binning_x": 0,
        "binning_y": 0,
        "roi": SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0),
    }
    return SimpleNamespace(**(values | other))


def camera_of(message: Any, size: tuple[int, int] = (640, 480), rectified: bool = False) -> Camera:
    """Of images whose size agrees with camera_info."""
    camera, note = fit_to_images(message, "front", size, rectified)
    assert note == ""
    return camera


@pytest.mark.parametrize(
    ("model", "distortion", "announced"),
    [
        ("pinhole", [], "plumb_bob"),
        ("pinhole", [0.1, -0.2, 0.001, 0.002, 0.05], "plumb_bob"),
        ("pinhole", [0.1, -0.2, 0.001, 0.002, 0.05, 0.2, 0.1, 0.01], "rational_polynomial"),
        ("pinhole", [0.1, -0.2, 0.001, 0.002, 0.05, 0.2, 0.1, 0.01, 0.001, 0.002, 0.003, 0.004], "rational_polynomial"),
        ("pinhole", [*[0.1] * 13, 0.01], "rational_polynomial"),
        ("fisheye", [0.01, 0.02, -0.01, 0.003], "equidistant"),
    ],
)
def test_round_trip(model: str, distortion: list[float], announced: str) -> None:
    camera = Camera("front", 640, 480, K, model, np.array(distortion))
    message = messages.camera_info(camera, 7, "front_optical")
    assert message.distortion_model == announced
    back = camera_of(message)
    assert (back.name, back.width, back.height, back.model) == ("front", 640, 480, model)
    np.testing.assert_array_equal(back.K, K)
    np.testing.assert_array_equal(back.distortion, distortion)
    np.testing.assert_array_equal(message.p.reshape(3, 4)[:, :3], K)


def test_raw_images_of_a_calibration_with_a_baseline_and_a_rotation_are_those_of_k() -> None:
    """As a converter of KITTI's drives writes it: P in the frame of another camera, R of rectification."""
    turned = cv2.Rodrigues(np.array([0.0, 0.02, 0.0]))[0]
    message = info(d=[0.0] * 5, r=turned.reshape(-1), p=np.hstack([K, [[-340.0], [0], [0]]]).reshape(-1))
    np.testing.assert_array_equal(camera_of(message).K, K)
    np.testing.assert_array_equal(camera_in_frame(message), np.eye(4))


def test_undistorted_fisheye_stays_fisheye() -> None:
    camera = camera_of(info(distortion_model="equidistant", d=[0.0] * 4))
    assert camera.model == "fisheye" and len(camera.distortion) == 4


FIVE, FOUR = [0.1, -0.2, 0.001, 0.002, 0.05], [0.01, 0.02, -0.01, 0.003]


@pytest.mark.parametrize(
    ("name", "given", "model", "read"),
    [
        ("plumb_bob", FIVE, "pinhole", FIVE),
        ("plumb_bob", [*FIVE, 0, 0, 0], "pinhole", FIVE),  # Orbbec
        ("plumb_bob", [*FIVE, 0.1, 0, 0], "pinhole", [*FIVE, 0.1, 0, 0]),  # as image_geometry: the length decides
        ("plumb_bob", [0.1, 0, 0, 0, 0], "pinhole", [0.1, 0, 0, 0]),
        ("Plumb Bob", FIVE, "pinhole", FIVE),
        ("radtan", FOUR, "pinhole", FOUR),
        ("radial-tangential", FOUR, "pinhole", FOUR),
        ("radial_tangential", FOUR, "pinhole", FOUR),
        ("brown_conrady", FIVE, "pinhole", FIVE),
        ("inverse_brown_conrady", [0] * 5, "pinhole", []),  # RealSense
        ("rational_polynomial", [*FIVE, 0.1, 0.1, 0.1, 0, 0, 0, 0, 0, 0], "pinhole", [*FIVE, 0.1, 0.1, 0.1]),
        ("rational_polynomial", [*FIVE, *[0.1] * 7], "pinhole", [*FIVE, *[0.1] * 7]),
        ("rational_polynomial", [0] * 14, "pinhole", []),
        ("", [], "pinhole", []),
        ("", [0] * 5, "pinhole", []),
        ("none", [0] * 4, "pinhole", []),
        ("fisheye", FOUR, "fisheye", FOUR),
        ("equi", FOUR, "fisheye", FOUR),
        ("kannala_brandt", FOUR, "fisheye", FOUR),
        ("Kannala-Brandt4", [*FOUR, 0], "fisheye", FOUR),  # RealSense T265
    ],
)
def test_names_and_lengths_of_drivers(name: str, given: list[float], model: str, read: list[float]) -> None:
    camera = camera_of(info(distortion_model=name, d=given))
    assert camera.model == model
    np.testing.assert_array_equal(camera.distortion, read)


P = np.array([[650.0, 0, 315, 0], [0, 655, 235, 0], [0, 0, 1, 0]])


def test_rectified_images_are_those_of_p_without_d() -> None:
    message = info(p=P.reshape(-1), distortion_model="scheimpflug", binning_x=2, binning_y=2,
                   roi=SimpleNamespace(x_offset=100, y_offset=50, width=200, height=120))  # fmt: skip
    camera = camera_of(message, (100, 60), rectified=True)
    assert (camera.width, camera.height, camera.model, len(camera.distortion)) == (100, 60, "pinhole", 0)
    np.testing.assert_allclose(camera.K, [[325, 0, (215 - 0.5) / 2], [0, 327.5, (185 - 0.5) / 2], [0, 0, 1]])


def test_without_p_rectified_images_are_raw_ones_if_the_lens_distorts_nothing() -> None:
    camera = camera_of(info(p=np.zeros(12), d=[0] * 5), rectified=True)
    np.testing.assert_array_equal(camera.K, K)
    with pytest.raises(CalibrationError, match="P in its camera_info is zero"):
        camera_of(info(p=np.zeros(12)), rectified=True)


def test_rectified_and_raw_pixels_show_the_same_ray() -> None:
    """cv2 makes rectified images by initUndistortRectifyMap(K, D, R, P): one point, both ways, must meet there."""
    R = cv2.Rodrigues(np.array([0.02, -0.03, 0.01]))[0]
    message = info(r=R.reshape(-1), p=P.reshape(-1))
    point = np.array([[0.3, -0.2, 2.0]])
    seen = [
        project(camera_of(message, rectified=rectified), transform(invert(camera_in_frame(message, rectified)), point))[
            0
        ][0]
        for rectified in (False, True)
    ]
    moved = cv2.undistortPoints(seen[0][None].astype(np.float64), K, np.array(message.d), R=R, P=P)[0, 0]
    np.testing.assert_allclose(seen[1], moved, atol=0.01)


def test_second_camera_of_a_stereo_pair_in_the_frame_of_the_first() -> None:
    """P[0, 3] = -f b: the second camera is b = 0.12 m to the right, in the turned frame of the first one."""
    R = cv2.Rodrigues(np.array([0.0, 0.05, 0.0]))[0]
    first = info(r=R.reshape(-1), p=P.reshape(-1))
    shifted = P.copy()
    shifted[0, 3] = -650 * 0.12
    second = info(r=R.T.reshape(-1), p=shifted.reshape(-1))
    for rectified, turned in ((True, R.T), (False, R.T @ R.T)):
        T = camera_in_frame(second, rectified, first)
        np.testing.assert_allclose(T[:3, 3], R.T @ [0.12, 0, 0], atol=1e-12)
        np.testing.assert_allclose(T[:3, :3], turned, atol=1e-9)
    np.testing.assert_array_equal(camera_in_frame(second), np.eye(4))  # in a frame of its own


def test_images_of_another_size_than_camera_info() -> None:
    same, note = fit_to_images(info(), "c", (640, 480))
    assert note == "" and (same.width, same.height) == (640, 480)
    half, note = fit_to_images(info(), "c", (320, 240))
    assert note == "camera_info is of 640 x 480: scaled to the images' 320 x 240"
    np.testing.assert_allclose(half.K, resized(camera_of(info()), 320, 240).K)
    binned = info(binning_x=2, binning_y=2, width=641)
    assert fit_to_images(binned, "c", (320, 240))[1] == ""
    rounded, note = fit_to_images(binned, "c", (321, 240))
    assert note == "" and rounded.width == 321 and rounded.K[0, 0] == 350
    full, note = fit_to_images(binned, "c", (641, 480))
    assert "320 x 240" in note and "not applied" in note
    np.testing.assert_array_equal(full.K, K)
    with pytest.raises(CalibrationError, match="images are 640 x 360, its camera_info says 640 x 480"):
        fit_to_images(info(), "c", (640, 360))


def test_region_of_interest() -> None:
    camera = camera_of(info(roi=SimpleNamespace(x_offset=100, y_offset=50, width=200, height=120)), (200, 120))
    assert (camera.width, camera.height) == (200, 120)
    np.testing.assert_allclose(camera.K[:2, 2], [219.5, 189.5])


def test_binning_moves_a_point_as_it_moves_its_pixel() -> None:
    camera = camera_of(info(binning_x=2, binning_y=4), (320, 120))
    assert (camera.width, camera.height) == (320, 120)
    ray = np.array([0.1, -0.2, 1.0])
    u, v, _ = K @ ray
    # Pixels 2i and 2i+1 make bin i: their common centre 2i + 0.5 is bin coordinate i.
    np.testing.assert_allclose((camera.K @ ray)[:2], [(u - 0.5) / 2, (v - 1.5) / 4])


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (info(k=np.zeros(9)), "'front' is not calibrated"),
        (info(width=0), "0 x 480"),
        (info(k=np.array([0.9, 0, 0.5, 0, 1.2, 0.5, 0, 0, 1])), "not in pixels of its"),
        (info(k=np.array([500.0, 0, 0, 0, 500, 0, 0, 0, 1])), "not in pixels of its"),
        (info(distortion_model="scheimpflug"), "'scheimpflug'"),
        (info(d=[0.1, 0.2]), "2 coefficients"),
        (info(distortion_model="plumb_bob", d=[0.1] * 6), "6 coefficients for 'plumb_bob'"),
        (info(distortion_model="kannala_brandt", d=[0.1] * 5), "5 coefficients for 'kannala_brandt'"),
        (info(distortion_model=""), "model '', which is known with zeros only"),
        (info(distortion_model="inverse_brown_conrady"), "'inverse_brown_conrady', which is known with zeros only"),
        (info(distortion_model="double_sphere", d=[]), "'double_sphere'"),
        (info(k=K + np.diag([5.0, 0], 1)), "skew"),
        (info(d=[np.nan] * 5), "not finite"),
        (info(k=np.full(9, np.inf)), "not finite"),
        (info(distortion_model="equidistant", d=[]), "0 coefficients"),
    ],
)
def test_bad_calibration_says_why(message: SimpleNamespace, cause: str) -> None:
    with pytest.raises(CalibrationError, match=cause) as raised:
        camera_of(message)
    assert raised.value.remedy
