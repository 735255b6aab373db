"""Projection against OpenCV inside the field, and against OpenCV's own fold-back outside it."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ov3d_perception.errors import CalibrationError
from ov3d_perception.geometry.association import associate
from ov3d_perception.geometry.cameras import field_limit, project, resized, validate_camera
from ov3d_perception.types import Camera, Frame, Scan, Sweep, View

K = np.array([[1000.0, 0, 800], [0, 1010, 450], [0, 0, 1]])
BARREL = [-0.35, 0.12, 1e-3, -8e-4, -0.02]
RATIONAL = [0.5, 0.1, 1e-3, -1e-3, 0.01, 0.8, 0.2, 0.02]
PRISM = [0.4, -0.3, 1e-3, -2e-3, 0.1, 0.5, -0.2, 0.05, 4e-3, -2e-3, 5e-3, 1e-3]
TILTED = [*PRISM, 0.01, -0.008]
FISHEYE = [-0.02, 0.006, -0.004, 0.0006]


def camera(distortion=(), model="pinhole") -> Camera:
    return Camera("front", 1600, 900, K, model, np.array(distortion, np.float64))


def opencv(subject: Camera, xyz: np.ndarray) -> np.ndarray:
    if subject.model == "fisheye":
        return cv2.fisheye.projectPoints(xyz[:, None], np.zeros(3), np.zeros(3), K, subject.distortion)[0][:, 0]
    return cv2.projectPoints(xyz, np.zeros(3), np.zeros(3), K, subject.distortion)[0][:, 0]


def points_in_front(count: int = 5000, spread: float = 0.9) -> np.ndarray:
    rng = np.random.default_rng(3)
    z = rng.uniform(0.5, 80, (count, 1))
    return np.hstack([rng.uniform(-spread, spread, (count, 2)) * z, z])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("model", "distortion"),
    [
        ("pinhole", []),
        ("pinhole", BARREL[:4]),
        ("pinhole", BARREL),
        ("pinhole", RATIONAL),
        ("pinhole", PRISM),
        ("pinhole", TILTED),
        ("pinhole", [0.0] * 12 + [0.2, -0.3]),
        ("fisheye", []),
        ("fisheye", FISHEYE),
    ],
)
def test_agrees_with_opencv(model, distortion, dtype):
    subject, xyz = camera(distortion, model), points_in_front()
    uv, depth, seen = project(subject, xyz.astype(dtype))
    assert uv.dtype == depth.dtype == np.float32
    assert seen.mean() > 0.95
    reference = replace(subject, distortion=np.zeros(4)) if model == "fisheye" and not distortion else subject
    tolerance = 1e-3 if dtype == np.float64 else 2e-2
    np.testing.assert_allclose(uv[seen], opencv(reference, xyz)[seen], atol=tolerance)
    expected = xyz[:, 2] if model == "pinhole" else np.linalg.norm(xyz, axis=1)
    np.testing.assert_allclose(depth, expected, rtol=1e-5)


@settings(max_examples=60)
@given(st.lists(st.floats(-0.5, 0.5), min_size=8, max_size=8))
def test_any_rational_lens_agrees_with_opencv_where_it_is_seen(coefficients):
    coefficients[2:4] = [c / 100 for c in coefficients[2:4]]
    subject, xyz = camera(coefficients), points_in_front(300, spread=3.0)
    uv, _, seen = project(subject, xyz)
    np.testing.assert_allclose(uv[seen], opencv(subject, xyz)[seen], rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize(
    ("model", "distortion"),
    [("pinhole", BARREL), ("fisheye", [0.0, -0.1, 0.0, 0.0]), ("pinhole", [0, 0, 0, 0, 0, -0.4, 0, 0])],
)
def test_what_folds_back_into_the_image_is_not_seen(model, distortion):
    """Along a ray of growing angle the pixel runs outwards, then back: nothing from the turning point on is seen."""
    subject = camera(distortion, model)
    angles = np.linspace(0.001, np.radians(89), 4000)
    xyz = np.stack([np.sin(angles), np.zeros_like(angles), np.cos(angles)], axis=1) * 10
    raw, (uv, _, seen) = opencv(subject, xyz)[:, 0], project(subject, xyz)
    turn = int(np.flatnonzero(np.diff(raw) < 0)[0])
    assert ((raw[turn + 50 :] > 0) & (raw[turn + 50 :] < 1600)).any(), "the lens of this test must fold into the image"
    assert seen[: turn - 10].all() and not seen[turn + 10 :].any()
    assert np.isnan(uv[~seen]).all()
    assert np.diff(uv[seen, 0]).min() > -0.02  # tangential terms move the turning point by some points


def test_field_limit_by_hand():
    assert field_limit(camera()) == np.inf
    assert field_limit(camera([0.1, 0.1, 0, 0])) == np.inf  # pincushion: never turns
    assert field_limit(camera([-1 / 3, 0, 0, 0])) == pytest.approx(1.0)  # r - r^3/3 turns at r = 1
    assert field_limit(camera([0, 0, 0, 0, 0, -0.25, 0, 0])) == pytest.approx(2.0)  # pole of 1/(1 - r^2/4)
    assert field_limit(camera([-4 / 27, 0, 0, 0], "fisheye")) == pytest.approx(1.5)  # 1 = 3 * 4/27 * 1.5^2
    assert field_limit(camera([], "fisheye")) == np.pi


LENSES = {
    "barrel": BARREL,
    "strong tangential": [-0.3, 0.05, 0.02, -0.03],
    "thin prism": [-0.2, 0.02, 0, 0, 0, 0, 0, 0, 0.02, -0.03, -0.01, 0.02],
    "tilt": [-0.2, 0.02, 1e-3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.3, -0.2],
    "everything": TILTED,
}


@pytest.mark.parametrize("distortion", LENSES.values(), ids=LENSES)
def test_in_each_direction_the_field_ends_where_opencv_first_turns_a_patch_over(distortion):
    """A patch of rays that the lens turns over (negative area in the image) is the first of what folds back."""
    subject = camera(distortion)
    directions, radii = np.linspace(0, 2 * np.pi, 361), np.tan(np.linspace(0.01, np.radians(88), 800))
    x, y = radii[:, None] * np.cos(directions), radii[:, None] * np.sin(directions)
    rays = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)
    seen = project(subject, rays)[2].reshape(x.shape)
    uv = opencv(subject, rays).reshape(*x.shape, 2)
    outwards, around = np.diff(uv, axis=0)[:, :-1], np.diff(uv, axis=1)[:-1]
    area = outwards[..., 0] * around[..., 1] - outwards[..., 1] * around[..., 0]
    whole = np.logical_and.accumulate(area > 0, axis=0)
    assert (~whole[-1]).any(), "the lens of this test must fold somewhere"
    end = whole.sum(axis=0)  # patches before the first that is turned over
    beyond = seen.sum(axis=0)[:-1] - end
    assert (np.abs(beyond) <= 2).mean() > 0.9, "the others are where the end jumps from one degree to the next"
    assert beyond.max() <= 12


@pytest.mark.parametrize(
    "distortion", [[], BARREL, RATIONAL, PRISM, TILTED, LENSES["tilt"], [0.0] * 8 + [-0.15, 0, 0, 0]], ids=len
)
def test_culling_leaves_out_nothing_that_the_camera_sees(distortion):
    subject, xyz = camera(distortion), points_in_front(20000, spread=4.0)
    uv, _, seen = project(subject, xyz)
    inside = seen & (uv >= 0).all(axis=1) & (uv < [1600, 900]).all(axis=1) & (xyz[:, 2] > 1)
    frame = Frame("f", (Sweep(Scan(xyz.astype(np.float32), np.zeros(len(xyz), np.float32)), np.eye(4)),),
                  (View(subject, np.eye(4), np.zeros((1, 1, 3), np.uint8)),))  # fmt: skip
    assert inside.sum() > 100
    missed = set(np.flatnonzero(inside)) ^ set(associate(frame).point)
    assert len(missed) <= 2, "those on the very edge may differ by rounding"


def test_behind_a_pinhole_nothing_is_seen_but_a_fisheye_sees_sideways():
    xyz = np.array([[0.0, 0, -5], [1, 0, 0], [0, 0, 0], [10, 0, -1], [0, 0, 3]])
    np.testing.assert_array_equal(project(camera(), xyz)[2], [False, False, False, False, True])
    uv, depth, seen = project(camera([], "fisheye"), xyz)
    np.testing.assert_array_equal(seen, [False, True, False, True, True])
    np.testing.assert_allclose(uv[1], [800 + 1000 * np.pi / 2, 450], rtol=1e-6)
    np.testing.assert_allclose(depth[[1, 3]], [1, np.sqrt(101)], rtol=1e-6)


def test_resizing_keeps_every_pixel_in_its_place():
    subject, xyz = camera(BARREL), points_in_front(200, spread=0.5)
    uv, half = project(subject, xyz)[0], project(resized(subject, 800, 300), xyz)[0]
    np.testing.assert_allclose(half, (uv + 0.5) * [1 / 2, 1 / 3] - 0.5, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"K": np.zeros((3, 3))}, "publishes zeros"),
        ({"K": np.full((3, 3), np.nan)}, "not finite"),
        ({"K": K + np.array([[0, 5, 0], [0, 0, 0], [0, 0, 0]])}, "skew"),
        ({"K": np.eye(4)}, "3x3"),
        ({"width": 0}, "image size 0 x 900"),
        ({"model": "omni"}, "'omni' is none of"),
        ({"distortion": np.zeros(5), "model": "fisheye"}, "5 distortion coefficients"),
        ({"distortion": np.zeros(9)}, "9 distortion coefficients"),
        ({"distortion": np.array([np.inf, 0, 0, 0])}, "not finite"),
    ],
)
@pytest.mark.usefixtures("shapes_unchecked")
def test_unusable_intrinsics_are_refused_by_name(change, word):
    with pytest.raises(CalibrationError, match=word) as caught:
        validate_camera(replace(camera(), **change))
    assert "front" in str(caught.value)


def test_all_faults_are_listed_at_once_and_good_cameras_pass():
    with pytest.raises(CalibrationError, match=r"image size.*publishes zeros"):
        validate_camera(replace(camera(), height=-1, K=np.diag([0.0, 0, 1])))
    for good in (camera(), camera(BARREL), camera(RATIONAL), camera(FISHEYE, "fisheye")):
        validate_camera(good)
