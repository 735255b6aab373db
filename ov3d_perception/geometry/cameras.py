"""Camera models: pinhole with plumb_bob or rational distortion, and the equidistant fisheye.

The formulae are OpenCV's (calib3d and fisheye modules), so that any ROS calibration applies as it is. Unlike OpenCV's
functions these know where a lens model ends: a distortion polynomial is fitted inside the image only, and far outside
it usually turns back, so that points far to the side land inside the image again. Such points are not in view, and are
never reported as such: see :func:`field_limit`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Float32, Float64

from ov3d_perception.errors import CalibrationError
from ov3d_perception.types import Camera, Mask

_Axis = Float[np.ndarray, " n"]

COEFFICIENTS = {"pinhole": (0, 4, 5, 8), "fisheye": (0, 4)}


def validate_camera(camera: Camera) -> None:
    """Raises CalibrationError, naming everything wrong with the intrinsics; returns None when they can be used."""
    faults = []
    K = np.asarray(camera.K, np.float64)
    if camera.model not in COEFFICIENTS:
        faults.append(f"model {camera.model!r} is none of {sorted(COEFFICIENTS)}")
    elif camera.distortion.shape not in [(n,) for n in COEFFICIENTS[camera.model]]:
        faults.append(
            f"{camera.distortion.size} distortion coefficients, a {camera.model} camera has "
            f"{' or '.join(map(str, COEFFICIENTS[camera.model]))}"
        )
    if camera.width <= 0 or camera.height <= 0:
        faults.append(f"image size {camera.width} x {camera.height}")
    if K.shape != (3, 3) or not np.isfinite(K).all() or not np.isfinite(camera.distortion).all():
        faults.append("K is not 3x3, or a coefficient is not finite")
    elif K[0, 0] <= 0 or K[1, 1] <= 0:
        faults.append(f"focal lengths {K[0, 0]:g} and {K[1, 1]:g} (an uncalibrated driver publishes zeros)")
    elif abs(K[0, 1]) > 1e-6 * K[0, 0] or np.abs(K[[1, 2, 2], [0, 0, 1]]).max() > 1e-9 or abs(K[2, 2] - 1) > 1e-9:
        faults.append(f"K = {K.tolist()} has skew or a last row other than 0 0 1")
    if faults:
        raise CalibrationError(
            f"Camera {camera.name!r} cannot be used: {'; '.join(faults)}",
            "Calibrate it (camera_calibration for pinhole, Kalibr for fisheye) and publish or store the result",
        )


def resized(camera: Camera, width: int, height: int) -> Camera:
    """The same camera with its image scaled to ``width`` x ``height``; pixel centres at integers are kept in mind."""
    sx, sy = width / camera.width, height / camera.height
    K = camera.K.copy()
    K[0] *= sx
    K[1] *= sy
    K[0, 2] += 0.5 * sx - 0.5
    K[1, 2] += 0.5 * sy - 0.5
    return replace(camera, width=width, height=height, K=K)


def field_limit(camera: Camera) -> float:
    """Where the lens model stops being one-to-one: the radius x/z (pinhole) or the angle in radians (fisheye).

    It is the first extremum (or pole) of the radial distortion; inf for a pinhole without one, at most pi for a
    fisheye. Nothing beyond it can be seen, whatever the formula gives there. (Tangential terms move the limit by their
    own small size; they are neglected.)
    """
    return _field_limit(camera.model, tuple(camera.distortion.tolist()))


@lru_cache(maxsize=64)
def _field_limit(model: str, distortion: tuple[float, ...]) -> float:
    P = np.polynomial.Polynomial
    if model == "fisheye":
        k = _padded(distortion, 4)
        return min(_first_positive_root(P([1, 0, 3 * k[0], 0, 5 * k[1], 0, 7 * k[2], 0, 9 * k[3]])), np.pi)
    k = _padded(distortion, 8)
    N, D, s = P([1, k[0], k[1], k[4]]), P([1, k[5], k[6], k[7]]), P([0, 1])
    slope = (N + 2 * s * N.deriv()) * D - 2 * s * N * D.deriv()  # of r N(r^2) / D(r^2), times D^2
    return float(np.sqrt(min(_first_positive_root(slope), _first_positive_root(D))))


def project(
    camera: Camera, xyz_cam: Float[np.ndarray, "n 3"]
) -> tuple[Float32[np.ndarray, "n 2"], Float32[np.ndarray, " n"], Mask]:
    """Pixels (u, v) of points in the camera's optical frame, their depth, and which of them the lens can see at all.

    Depth is z for a pinhole and the distance along the ray for a fisheye, where z means nothing towards 90 degrees
    (and is negative beyond). The mask is False behind the camera and beyond :func:`field_limit`; uv is NaN there.
    Whether a pixel lies inside the image is for the caller to ask. Computed in the dtype of ``xyz_cam``.
    """
    u, v, depth, seen = project_axes(camera, *xyz_cam.T)
    uv = np.stack([u, v], axis=1).astype(np.float32)
    uv[~seen] = np.nan
    return uv, depth.astype(np.float32), seen


def project_axes(camera: Camera, x: _Axis, y: _Axis, z: _Axis) -> tuple[_Axis, _Axis, _Axis, Mask]:
    """:func:`project` by columns: u, v, depth and mask; u and v mean nothing where the mask is False."""
    return (_project_fisheye if camera.model == "fisheye" else _project_pinhole)(camera, x, y, z)


def _project_pinhole(camera: Camera, x: _Axis, y: _Axis, z: _Axis) -> tuple[_Axis, _Axis, _Axis, Mask]:
    seen = z > 1e-6
    inverse = 1 / np.where(seen, z, 1)
    x, y = x * inverse, y * inverse
    if camera.distortion.any():
        squared = x * x + y * y
        limit = field_limit(camera)
        seen &= squared < limit * limit
        x, y = distort(camera, x, y)
    (fx, _, cx), (_, fy, cy) = camera.K[:2].astype(x.dtype)
    return fx * x + cx, fy * y + cy, z, seen


def _project_fisheye(camera: Camera, x: _Axis, y: _Axis, z: _Axis) -> tuple[_Axis, _Axis, _Axis, Mask]:
    radius = np.hypot(x, y)
    distance = np.hypot(radius, z)
    angle = np.arctan2(radius, z)
    seen = (angle < field_limit(camera)) & (distance > 1e-6)
    factor = fisheye_radius(camera, angle) / np.where(radius > 1e-9, radius, 1)
    (fx, _, cx), (_, fy, cy) = camera.K[:2].astype(x.dtype)
    return fx * factor * x + cx, fy * factor * y + cy, distance, seen


def distort(camera: Camera, x: _Axis, y: _Axis) -> tuple[_Axis, _Axis]:
    """Distorted normalised coordinates of a pinhole camera; OpenCV's k1 k2 p1 p2 k3 k4 k5 k6."""
    k1, k2, p1, p2, k3, k4, k5, k6 = _padded(camera.distortion, 8).astype(x.dtype)
    s = x * x + y * y
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # only far beyond the field limit
        radial = 1 + s * (k1 + s * (k2 + s * k3))
        if k4 or k5 or k6:
            radial /= 1 + s * (k4 + s * (k5 + s * k6))
        xy = 2 * x * y
        return x * radial + p1 * xy + p2 * (s + 2 * x * x), y * radial + p1 * (s + 2 * y * y) + p2 * xy


def fisheye_radius(camera: Camera, angle: _Axis) -> _Axis:
    """Distance from the image centre in focal lengths for an angle from the optical axis (Kannala and Brandt, 2006)."""
    k1, k2, k3, k4 = _padded(camera.distortion, 4).astype(angle.dtype)
    s = angle * angle
    return angle * (1 + s * (k1 + s * (k2 + s * (k3 + s * k4))))


def _padded(distortion: Float64[np.ndarray, " d"] | tuple[float, ...], count: int) -> Float64[np.ndarray, " c"]:
    return np.pad(np.asarray(distortion, np.float64), (0, count - len(distortion)))


def _first_positive_root(polynomial: np.polynomial.Polynomial) -> float:
    """The smallest positive real root, inf where there is none."""
    ascending = polynomial.coef
    negligible = np.abs(ascending) < 1e-12 * np.abs(ascending).max()
    coefficients = np.trim_zeros(np.where(negligible, 0, ascending), "b")
    if len(coefficients) < 2:
        return np.inf
    roots = np.polynomial.polynomial.polyroots(coefficients)
    real = roots.real[(np.abs(roots.imag) < 1e-9 * (1 + np.abs(roots.real))) & (roots.real > 0)]
    return float(real.min()) if len(real) else np.inf
