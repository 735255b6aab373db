"""Rotations as matrices, unit quaternions (x, y, z, w) and rotation vectors (axis times angle in radians).

SciPy has all of it, and takes longer to be imported than a node's other modules but PyTorch.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

_SMALL = 1e-8
"""An angle below which its sine is the angle."""


def matrices_of(quaternions: Float64[np.ndarray, "*b 4"]) -> Float64[np.ndarray, "*b 3 3"]:
    """Of quaternions of any length but zero."""
    x, y, z, w = np.moveaxis(quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quaternions_of(matrices: Float64[np.ndarray, "*b 3 3"]) -> Float64[np.ndarray, "*b 4"]:
    """Of rotation matrices, w >= 0; of the four ways to them the one that divides by the largest number (Shepperd)."""
    R = np.moveaxis(matrices, (-2, -1), (0, 1))
    trace = R[0, 0] + R[1, 1] + R[2, 2]
    squares = np.stack([R[0, 0], R[1, 1], R[2, 2], trace], axis=-1)
    ways = [  # 4 q_k * (x, y, z, w)
        [1 + 2 * R[0, 0] - trace, R[1, 0] + R[0, 1], R[0, 2] + R[2, 0], R[2, 1] - R[1, 2]],
        [R[1, 0] + R[0, 1], 1 + 2 * R[1, 1] - trace, R[2, 1] + R[1, 2], R[0, 2] - R[2, 0]],
        [R[0, 2] + R[2, 0], R[2, 1] + R[1, 2], 1 + 2 * R[2, 2] - trace, R[1, 0] - R[0, 1]],
        [R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1], 1 + trace],
    ]
    every = np.stack([np.stack(way, axis=-1) for way in ways], axis=-2)
    best = squares.argmax(-1)[..., None, None]
    found = np.take_along_axis(every, best, axis=-2)[..., 0, :]
    found = found / np.linalg.norm(found, axis=-1, keepdims=True)
    return np.where(found[..., 3:] < 0, -found, found)


def matrices_of_vectors(vectors: Float64[np.ndarray, "*b 3"]) -> Float64[np.ndarray, "*b 3 3"]:
    """Of rotation vectors."""
    angle = np.linalg.norm(vectors, axis=-1, keepdims=True)
    share = np.where(angle < _SMALL, 0.5, np.sin(angle / 2) / np.maximum(angle, _SMALL))
    return matrices_of(np.concatenate([share * vectors, np.cos(angle / 2)], axis=-1))


def vectors_of(matrices: Float64[np.ndarray, "*b 3 3"]) -> Float64[np.ndarray, "*b 3"]:
    """Of rotation matrices, of at most half a turn."""
    quaternion = quaternions_of(matrices)
    sine = np.linalg.norm(quaternion[..., :3], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, quaternion[..., 3:])
    return quaternion[..., :3] * np.where(sine < _SMALL, 2.0, angle / np.maximum(sine, _SMALL))


def nearest(matrix: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, "3 3"]:
    """The rotation nearest to a matrix of positive determinant (least squares)."""
    left, _, right = np.linalg.svd(matrix)
    found: Float64[np.ndarray, "3 3"] = left @ right
    return found
