"""Voxels as single int64 keys, for maps and look-ups on the CPU: 21 bits for each of x, y and z."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64

from ov3d_perception.errors import PointCloudError

BITS = 21
HALF = 1 << (BITS - 1)
MASK = (1 << BITS) - 1


def voxel_coordinates(xyz: Float[np.ndarray, "n 3"], voxel_size: float) -> Int64[np.ndarray, "n 3"]:
    """The voxel each point lies in: ``floor(xyz / voxel_size)``, in float64 so that far points keep their voxel."""
    return np.floor(xyz.astype(np.float64) / voxel_size).astype(np.int64)


def pack(coordinates: Int64[np.ndarray, "n 3"]) -> Int64[np.ndarray, " n"]:
    """One key per voxel; the keys sort by x, then y, then z. Raises PointCloudError beyond +-2**20 voxels."""
    if len(coordinates) and not (coordinates.min() >= -HALF and coordinates.max() < HALF):
        raise PointCloudError(
            f"Voxel coordinates reach from {coordinates.min(0).tolist()} to {coordinates.max(0).tolist()}, "
            f"outside +-{HALF}",
            "Remove outliers, use larger voxels, or a local frame (map, odom) instead of world coordinates",
        )
    x, y, z = (coordinates + HALF).T
    return (x << (2 * BITS)) | (y << BITS) | z


def unpack(keys: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, "n 3"]:
    """The inverse of :func:`pack`."""
    return np.stack([keys >> (2 * BITS), (keys >> BITS) & MASK, keys & MASK], axis=1) - HALF


def voxel_keys(xyz: Float[np.ndarray, "n 3"], voxel_size: float) -> Int64[np.ndarray, " n"]:
    """The key of the voxel that each point lies in."""
    return pack(voxel_coordinates(xyz, voxel_size))


def voxel_centres(keys: Int64[np.ndarray, " n"], voxel_size: float) -> Float[np.ndarray, "n 3"]:
    """Centres of the voxels, in metres, float64."""
    return (unpack(keys) + 0.5) * voxel_size
