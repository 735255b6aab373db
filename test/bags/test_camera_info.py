"""CameraInfo in and out, binning and regions against what the pixels themselves do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ov3d_perception.bags import messages
from ov3d_perception.bags.camera_info import to_camera
from ov3d_perception.errors import CalibrationError
from ov3d_perception.types import Camera

K = np.array([[700.0, 0.0, 319.5], [0.0, 710.0, 239.5], [0.0, 0.0, 1.0]])


def info(**other: Any) -> SimpleNamespace:
    values = {
        "width": 640,
        "height": 480,
        "distortion_model": "plumb_bob",
        "d": [0.1, -0.2, 0.001, 0.002, 0.05],
        "k": K.reshape(-1),
        "binning_x": 0,
        "binning_y": 0,
        "roi": SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0),
    }
    return SimpleNamespace(**(values | other))


@pytest.mark.parametrize(
    ("model", "distortion", "announced"),
    [
        ("pinhole", [], "plumb_bob"),
        ("pinhole", [0.1, -0.2, 0.001, 0.002, 0.05], "plumb_bob"),
        ("pinhole", [0.1, -0.2, 0.001, 0.002, 0.05, 0.2, 0.1, 0.01], "rational_polynomial"),
        ("fisheye", [0.01, 0.02, -0.01, 0.003], "equidistant"),
    ],
)
def test_round_trip(model: str, distortion: list[float], announced: str) -> None:
    camera = Camera("front", 640, 480, K, model, np.array(distortion))
    message = messages.camera_info(camera, 7, "front_optical")
    assert message.distortion_model == announced
    back = to_camera(message, "front")
    assert (back.name, back.width, back.height, back.model) == ("front", 640, 480, model)
    np.testing.assert_array_equal(back.K, K)
    np.testing.assert_array_equal(back.distortion, distortion)
    np.testing.assert_array_equal(message.p.reshape(3, 4)[:, :3], K)


def test_undistorted_fisheye_stays_fisheye() -> None:
    camera = to_camera(info(distortion_model="equidistant", d=[0.0] * 4), "c")
    assert camera.model == "fisheye" and len(camera.distortion) == 4


def test_region_of_interest() -> None:
    camera = to_camera(info(roi=SimpleNamespace(x_offset=100, y_offset=50, width=200, height=120)), "c")
    assert (camera.width, camera.height) == (200, 120)
    np.testing.assert_allclose(camera.K[:2, 2], [219.5, 189.5])


def test_binning_moves_a_point_as_it_moves_its_pixel() -> None:
    camera = to_camera(info(binning_x=2, binning_y=4), "c")
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
        (info(distortion_model="scheimpflug"), "'scheimpflug'"),
        (info(d=[0.1, 0.2]), "2 coefficients"),
        (info(d=[np.nan] * 5), "not finite"),
        (info(k=np.full(9, np.inf)), "not finite"),
        (info(distortion_model="equidistant", d=[]), "0 coefficients"),
    ],
)
def test_bad_calibration_says_why(message: SimpleNamespace, cause: str) -> None:
    with pytest.raises(CalibrationError, match=cause) as raised:
        to_camera(message, "front")
    assert raised.value.remedy
