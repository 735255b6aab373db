"""Voxel coordinates as sortable 64-bit keys: 9 bits of batch, then 18 bits each for x, y and z.

A key orders voxels by (batch, x, y, z), so that the neighbours of a voxel along z lie next to each other, and a shift
in space is an addition: ``pack(c + d) == pack(c) + shift(d)`` as long as no axis leaves its 18 bits. :data:`LIMIT`
keeps :data:`MARGIN` voxels free at either end for the kernel's reach.
"""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor

from ov3d_perception.errors import PointCloudError

BITS = 18
HALF = 1 << (BITS - 1)
MARGIN = 1024
LIMIT = HALF - MARGIN
MAX_BATCH = 1 << 9
PLACES = (0, BITS, 2 * BITS, 3 * BITS)
"""Lowest bits of z, y, x and the batch."""
_AXIS_MASK = (1 << BITS) - 1


def pack(coords: Int64[Tensor, "n 4"]) -> Int64[Tensor, " n"]:
    """Keys of ``[batch, x, y, z]`` rows. Raises PointCloudError where a coordinate is outside the key range."""
    check_range(coords)
    batch, x, y, z = coords.unbind(1)
    return (((batch << BITS) + (x + HALF) << BITS) + (y + HALF) << BITS) + (z + HALF)


def unpack(keys: Int64[Tensor, " n"]) -> Int64[Tensor, "n 4"]:
    """The inverse of :func:`pack`."""
    axes = [(keys >> (BITS * place) & _AXIS_MASK) - HALF for place in (2, 1, 0)]
    return torch.stack([keys >> (3 * BITS), *axes], dim=1)


def shift(dx: int, dy: int, dz: int) -> int:
    """What to add to a key to move by (dx, dy, dz) voxels."""
    return (((dx << BITS) + dy) << BITS) + dz


def check_range(coords: Int64[Tensor, "n 4"]) -> None:
    """Raises PointCloudError unless every row fits a key."""
    if len(coords) == 0:
        return
    low, high = coords.amin(0).tolist(), coords.amax(0).tolist()
    if min(low[1:]) < -LIMIT or max(high[1:]) > LIMIT:
        raise PointCloudError(
            f"Voxel coordinates run from {low[1:]} to {high[1:]}, beyond the {LIMIT} voxels that fit on either side",
            "Crop the cloud, move it to the origin, or take a larger voxel",
        )
    if low[0] < 0 or high[0] >= MAX_BATCH:
        raise PointCloudError(f"Batch indices run from {low[0]} to {high[0]}", f"Keep them in 0..{MAX_BATCH - 1}")
