"""Camera models: pinhole with OpenCV's distortion of 4, 5, 8, 12 or 14 coefficients, and the equidistant fisheye.

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

_Axis = Float[np.ndarray, "*n"]

COEFFICIENTS = {"pinhole": (0, 4, 5, 8, 12, 14), "fisheye": (0, 4)}
_DIRECTIONS = 128  # in which the end of a pinhole's field is looked for


def validate_camera(camera: Camera) -> None:
    """Raises CalibrationError, naming everything wrong with the intrinsics; returns None when they can be used."""
    errors = []
    K = np.asarray(camera.K, np.float64)
    if camera.model not in COEFFICIENTS:
        errors.append(f"model {camera.model!r} is none of {sorted(COEFFICIENTS)}")
    elif camera.distortion.shape not in [(n,) for n in COEFFICIENTS[camera.model]]:
        errors.append(
            f"{camera.distortion.size} distortion coefficients, a {camera.model} camera has "
            f"{' or '.join(map(str, COEFFICIENTS[camera.model]))}"
        )
    if camera.width <= 0 or camera.height <= 0:
        errors.append(f"image size {camera.width} x {camera.height}")
    if K.shape != (3, 3) or not np.isfinite(K).all() or not np.isfinite(camera.distortion).all():
        errors.append("K is not 3x3, or a coefficient is not finite")
    elif K[0, 0] <= 0 or K[1, 1] <= 0:
        errors.append(f"focal lengths {K[0, 0]:g} and {K[1, 1]:g} (an uncalibrated driver publishes zeros)")
    elif abs(K[0, 1]) > 1e-6 * K[0, 0] or np.abs(K[[1, 2, 2], [0, 0, 1]]).max() > 1e-9 or abs(K[2, 2] - 1) > 1e-9:
        errors.append(f"K = {K.tolist()} has skew or a last row other than 0 0 1")
    if errors:
        raise CalibrationError(
            f"Camera {camera.name!r} cannot be used: {'; '.join(errors)}",
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

    Nothing beyond it can be seen, whatever the formula gives there. For radial distortion it is the first extremum or
    pole; inf for a pinhole without one, at most pi for a fisheye. Tangential, thin-prism and tilt terms make it depend
    on the direction in the image: then this is the largest of :func:`field_limits`.
    """
    return float(field_limits(camera).max())


def field_limits(camera: Camera) -> Float64[np.ndarray, " d"]:
    """The limit in d equally spaced directions atan2(y, x) from 0 on; one value where all directions are alike.

    Along each direction it is the first radius at which the determinant of the distortion's Jacobian is not positive.
    """
    return _field_limits(camera.model, tuple(camera.distortion.tolist()))


@lru_cache(maxsize=64)
def _field_limits(model: str, distortion: tuple[float, ...]) -> Float64[np.ndarray, " d"]:
    P = np.polynomial.Polynomial
    if model == "fisheye":
        k = _padded(distortion, 4)
        slope = P([1, 0, 3 * k[0], 0, 5 * k[1], 0, 7 * k[2], 0, 9 * k[3]])
        return np.array([min(_first_positive_root(slope), np.pi)])
    k = _padded(distortion, 14)
    N, D, s = P([1, k[0], k[1], k[4]]), P([1, k[5], k[6], k[7]]), P([0, 1])
    slope = (N + 2 * s * N.deriv()) * D - 2 * s * N * D.deriv()  # of r N(r^2) / D(r^2), times D^2
    pole = np.sqrt(_first_positive_root(D))
    if not k[[2, 3, 8, 9, 10, 11, 12, 13]].any():
        return np.array([min(np.sqrt(_first_positive_root(slope)), pole)])
    return _directional_limits(Camera("lens", 1, 1, np.eye(3), model, k), min(float(pole), 1e3))


def _directional_limits(lens: Camera, farthest: float) -> Float64[np.ndarray, " d"]:
    """The first radius at which the lens's Jacobian determinant is not positive, by direction; inf where it stays so
    up to ``farthest``, unless that is a pole."""
    direction = np.linspace(0, 2 * np.pi, _DIRECTIONS, endpoint=False)[:, None]
    cos, sin = np.cos(direction), np.sin(direction)
    radii = np.tan(np.linspace(0, np.arctan(farthest), 1000))[:-1]
    folded = ~(_jacobian_determinant(lens, cos * radii, sin * radii) > 0)
    first = np.where(folded.any(axis=1), folded.argmax(axis=1), len(radii) - 1)
    low, high = radii[np.maximum(first - 1, 0)], radii[first]
    for _ in range(30):
        middle = (low + high) / 2
        valid = _jacobian_determinant(lens, cos[:, 0] * middle, sin[:, 0] * middle) > 0
        low, high = np.where(valid, middle, low), np.where(valid, high, middle)
    return np.where(folded.any(axis=1), low, farthest if farthest < 1e3 else np.inf)


def _jacobian_determinant(
    lens: Camera, x: Float64[np.ndarray, "*n"], y: Float64[np.ndarray, "*n"]
) -> Float64[np.ndarray, "*n"]:
    """Of :func:`distort`; not positive, too, where a tilted sensor's plane lies behind the lens."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, *tilt = _padded(lens.distortion, 14)
    s = x * x + y * y
    numerator, denominator = 1 + s * (k1 + s * (k2 + s * k3)), 1 + s * (k4 + s * (k5 + s * k6))
    radial = numerator / denominator
    slope = (k1 + s * (2 * k2 + 3 * s * k3) - radial * (k4 + s * (2 * k5 + 3 * s * k6))) / denominator
    cross = 2 * (x * y * slope + p1 * x + p2 * y)
    xx = radial + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x + 2 * x * (s1 + 2 * s * s2)
    xy = cross + 2 * y * (s1 + 2 * s * s2)
    yx = cross + 2 * x * (s3 + 2 * s * s4)
    yy = radial + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x + 2 * y * (s3 + 2 * s * s4)
    determinant = xx * yy - xy * yx
    if not any(tilt):
        return determinant
    u, v = distort(replace(lens, distortion=lens.distortion[:12]), x, y)
    row = tilt_matrix(lens)[2]
    return np.where(row[0] * u + row[1] * v + row[2] > 0, determinant, -1)


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
        seen &= _within_field(camera, x, y)
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


def _within_field(camera: Camera, x: _Axis, y: _Axis) -> Mask:
    limits = field_limits(camera)
    squared = x * x + y * y
    within = squared < limits.max() ** 2
    if len(limits) > 1 and limits.min() < np.inf:
        between = np.flatnonzero(within & (squared >= limits.min() ** 2))
        step = np.arctan2(y[between], x[between]) * (len(limits) / (2 * np.pi))
        low = np.floor(step).astype(np.int64)
        here = np.minimum(limits[low % len(limits)], limits[(low + 1) % len(limits)])
        within[between] = squared[between] < here**2
    return within


def distort(camera: Camera, x: _Axis, y: _Axis) -> tuple[_Axis, _Axis]:
    """Distorted normalised coordinates of a pinhole camera; OpenCV's k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4 tx ty.

    Source: OpenCV's documentation of calib3d, "Detailed Description"; s: thin prism, t: tilt of the sensor (radians).
    """
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, *tilt = _padded(camera.distortion, 14).astype(x.dtype)
    s = x * x + y * y
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # only far beyond the field limit
        radial = 1 + s * (k1 + s * (k2 + s * k3))
        if k4 or k5 or k6:
            radial /= 1 + s * (k4 + s * (k5 + s * k6))
        xy = 2 * x * y
        u, v = x * radial + p1 * xy + p2 * (s + 2 * x * x), y * radial + p1 * (s + 2 * y * y) + p2 * xy
        if s1 or s2 or s3 or s4:
            u, v = u + s * (s1 + s * s2), v + s * (s3 + s * s4)
        if any(tilt):
            a, b, c = tilt_matrix(camera).astype(x.dtype)
            w = c[0] * u + c[1] * v + c[2]
            u, v = (a[0] * u + a[1] * v + a[2]) / w, (b[0] * u + b[1] * v + b[2]) / w
    return u, v


def tilt_matrix(camera: Camera) -> Float64[np.ndarray, "3 3"]:
    """The homography of a tilted sensor (Scheimpflug) on normalised coordinates; the identity without tilt."""
    tx, ty = _padded(camera.distortion, 14)[12:]
    about_x = np.array([[1, 0, 0], [0, np.cos(tx), np.sin(tx)], [0, -np.sin(tx), np.cos(tx)]])
    about_y = np.array([[np.cos(ty), 0, -np.sin(ty)], [0, 1, 0], [np.sin(ty), 0, np.cos(ty)]])
    R = about_y @ about_x
    return np.array([[R[2, 2], 0, -R[0, 2]], [0, R[2, 2], -R[1, 2]], [0, 0, 1]]) @ R


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
