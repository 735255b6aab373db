"""Rigid transforms as 4x4 matrices ``T_a_b`` (``p_a = T_a_b @ p_b``), and a track of poses over time."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from ov3d_perception.errors import TransformError
from ov3d_perception.types import Pose, Poses


def invert(T: Pose) -> Pose:
    """The inverse of a rigid transform: ``T_b_a`` from ``T_a_b``."""
    inverse = np.eye(4)
    inverse[:3, :3] = T[:3, :3].T
    inverse[:3, 3] = -T[:3, :3].T @ T[:3, 3]
    return inverse


def transform(T_a_b: Pose, xyz: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Points of frame b in frame a, in the dtype of ``xyz`` (use float64 where the coordinates are large)."""
    return xyz @ T_a_b[:3, :3].T.astype(xyz.dtype) + T_a_b[:3, 3].astype(xyz.dtype)


def rigid(T: ArrayLike) -> Pose:
    """The nearest rigid transform to a 3x4 or 4x4 matrix whose rotation was rounded (text files, float32).

    Raises TransformError where that is no rounding: a scale, a mirror image, or numbers that are not finite.
    """
    M = np.asarray(T, np.float64)
    if (
        M.shape not in [(3, 4), (4, 4)]
        or not np.isfinite(M).all()
        or np.linalg.det(M[:3, :3]) <= 0
        or (np.abs(M[:3, :3] @ M[:3, :3].T - np.eye(3)).max() > 1e-3)
    ):
        raise TransformError(f"{M.tolist()} is no rigid transform", "Check the calibration or pose file it came from")
    result = np.eye(4)
    result[:3, :3] = Rotation.from_matrix(M[:3, :3]).as_matrix()
    result[:3, 3] = M[:3, 3]
    return result


def from_quaternion(translation: ArrayLike, xyzw: ArrayLike) -> Pose:
    """A pose from a translation (3,) in metres and a quaternion (x, y, z, w), which need not be normalised.

    Raises TransformError where a number is not finite or the quaternion is zero.
    """
    poses, faults = from_quaternions(np.asarray(translation, np.float64)[None], np.asarray(xyzw, np.float64)[None])
    if faults:
        raise faults[0]
    return poses[0]


def from_quaternions(
    translations: Float64[np.ndarray, "n 3"], xyzw: Float64[np.ndarray, "n 4"]
) -> tuple[Poses, dict[int, TransformError]]:
    """:func:`from_quaternion` for each of n; the identity where it is none, and by row what is wrong there."""
    sound = np.isfinite(translations).all(axis=1) & np.isfinite(xyzw).all(axis=1)
    sound[sound] = np.linalg.norm(xyzw[sound], axis=1) > 1e-6
    poses = np.tile(np.eye(4), (len(translations), 1, 1))
    if sound.any():
        poses[sound, :3, :3] = Rotation.from_quat(xyzw[sound]).as_matrix()
        poses[sound, :3, 3] = translations[sound]
    faults = {
        row: TransformError(
            f"Translation {translations[row].tolist()} with quaternion (x y z w) {xyzw[row].tolist()} is no rigid "
            "transform",
            "Check the node or file that wrote it; an unset quaternion should be (0, 0, 0, 1)",
        )
        for row in np.flatnonzero(~sound).tolist()
    }
    return poses, faults


def to_quaternion(T: Pose) -> tuple[Float64[np.ndarray, " 3"], Float64[np.ndarray, " 4"]]:
    """Translation (3,) and unit quaternion (x, y, z, w), w >= 0, of a pose."""
    return T[:3, 3].copy(), Rotation.from_matrix(T[:3, :3]).as_quat(canonical=True)


def interpolate(T0: Pose, T1: Pose, fraction: float) -> Pose:
    """The pose at ``fraction`` of the way from T0 to T1: translation linear, rotation on the geodesic (slerp).

    A fraction outside [0, 1] continues the same motion beyond the ends.
    """
    return interpolate_each(T0[None], T1[None], np.array([fraction], np.float64))[0]


def interpolate_each(T0: Poses, T1: Poses, fraction: Float64[np.ndarray, " t"]) -> Poses:
    """:func:`interpolate` for each of t pairs of poses."""
    T = np.tile(np.eye(4), (len(T0), 1, 1))
    R0 = Rotation.from_matrix(T0[:, :3, :3])
    step = (R0.inv() * Rotation.from_matrix(T1[:, :3, :3])).as_rotvec()
    T[:, :3, :3] = (R0 * Rotation.from_rotvec(fraction[:, None] * step)).as_matrix()
    T[:, :3, 3] = T0[:, :3, 3] + fraction[:, None] * (T1[:, :3, 3] - T0[:, :3, 3])
    return T
