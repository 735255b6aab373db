"""What the network is told about a point, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def _clean(intensity: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return torch.nan_to_num(intensity, nan=0.0, posinf=1.0, neginf=0.0).clamp(0.0, 1.0)


def _rank(intensity: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    level = (_clean(intensity) * (LEVELS - 1)).round().long()
    count = torch.bincount(level, minlength=LEVELS)
    below = torch.cumsum(count, 0) - count
    share = (below + count / 2) / max(len(intensity), 1)
    return (4.0 * share - 2.0).float().index_select(0, level)


def _offset(xyz: Float[Tensor, "n 3"], voxel_size: float) -> Float[Tensor, " n"]:
    cell = xyz[:, 2] / voxel_size
    return cell - torch.floor(cell) - 0.5


def _elevation(xyz: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    z = xyz[:, 2]
    if len(z) == 0:
        return z
    cell = torch.floor(xyz[:, :2] / COLUMN + NEAR).long()
    near = ((cell >= 0) & (cell < 2 * NEAR)).all(1)
    lowest = z.new_full((4 * NEAR * NEAR,), torch.inf)
    lowest.scatter_reduce_(0, cell[near, 0] * 2 * NEAR + cell[near, 1], z[near], "amin")
    seen = lowest[lowest < torch.inf]
    return z - (seen.median() if len(seen) >= FEW else torch.quantile(z[:: -(-len(z) // 100_000)], 0.05))


def _roughness(xyz: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    column = torch.floor(xyz[:, :2] / COLUMN).long()
    cells, row = torch.unique((column[:, 0] << 32) + column[:, 1], return_inverse=True)
    sums = xyz.new_zeros(len(cells), 3)
    sums.index_add_(0, row, torch.stack([torch.ones_like(xyz[:, 2]), xyz[:, 2], xyz[:, 2] ** 2], dim=1))
    mean, square = sums[:, 1] / sums[:, 0], sums[:, 2] / sums[:, 0]
    spread = (square - mean**2).clamp_min(0).sqrt()
    return (torch.log(spread + 0.01) + 3.0).index_select(0, row)


LEVELS = 1 << 16
"""Strengths that an intensity's rank tells apart: no LiDAR reports more than 16 bits."""

COLUMN = 1.0
"""Metres: edge of the columns within which roughness is measured and the ground is looked for."""
NEAR, FEW = 12, 10
"""Columns in each direction that lie near the sensor; how many of them tell where the ground is."""

INPUTS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "ones": lambda xyz, intensity, voxel: torch.ones_like(intensity),
    "intensity": lambda xyz, intensity, voxel: _clean(intensity),
    "log_intensity": lambda xyz, intensity, voxel: torch.log(_clean(intensity) + 0.01) + 2.3,
    "intensity_rank": lambda xyz, intensity, voxel: _rank(intensity),
    "height": lambda xyz, intensity, voxel: xyz[:, 2],
    "elevation": lambda xyz, intensity, voxel: _elevation(xyz),
    "offset": lambda xyz, intensity, voxel: _offset(xyz, voxel),
    "roughness": lambda xyz, intensity, voxel: _roughness(xyz),
}
"""ones: occupancy alone (OpenScene); intensity: of the return, clamped to [0, 1]; log_intensity: its logarithm, shifted
so that a return of 9 % is 0 and the spread is about 1 (most returns are weak, and beside the height in metres their
plain values are too small to be learned from quickly); intensity_rank: the share of the cloud's returns that are
weaker, ties half, from -2 (weakest) to 2, so that nothing hangs on how a LiDAR reports an echo's strength; all 0 where
there is no intensity; height: z in metres; elevation: z above the ground around the sensor (the median over columns of
:data:`COLUMN` of their lowest points; where few are near, the twentieth of all points that is lowest), so that nothing
hangs on how high the sensor is; offset: z within its voxel, from -1/2 to 1/2 of its edge, which keeps shapes finer than
a voxel; roughness: logarithm of the standard deviation of z within a column of :data:`COLUMN`, 0 at 4 cm (a road has
1-2 cm, grass 5-10 cm)."""


def point_inputs(
    names: tuple[str, ...], xyz: Float[Tensor, "n 3"], intensity: Float[Tensor, " n"], voxel_size: float
) -> Float[Tensor, "n c"]:
    """One column for each of ``names``, which are keys of :data:`INPUTS`. Raises ValueError for an unknown name."""
    unknown = [name for name in names if name not in INPUTS]
    if unknown or not names:
        raise ValueError(f"Unknown network inputs {unknown}; known are {', '.join(INPUTS)}")
    return torch.stack([INPUTS[name](xyz, intensity, voxel_size) for name in names], dim=1)
