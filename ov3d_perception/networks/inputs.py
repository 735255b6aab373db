"""What the network is told about a point, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def _clean(intensity: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return torch.nan_to_num(intensity, nan=0.0, posinf=1.0, neginf=0.0).clamp(0.0, 1.0)


def _offset(xyz: Float[Tensor, "n 3"], voxel_size: float) -> Float[Tensor, " n"]:
    cell = xyz[:, 2] / voxel_size
    return cell - torch.floor(cell) - 0.5


def _roughness(xyz: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    column = torch.floor(xyz[:, :2] / COLUMN).long()
    cells, row = torch.unique((column[:, 0] << 32) + column[:, 1], return_inverse=True)
    sums = xyz.new_zeros(len(cells), 3)
    sums.index_add_(0, row, torch.stack([torch.ones_like(xyz[:, 2]), xyz[:, 2], xyz[:, 2] ** 2], dim=1))
    mean, square = sums[:, 1] / sums[:, 0], sums[:, 2] / sums[:, 0]
    spread = (square - mean**2).clamp_min(0).sqrt()
    return (torch.log(spread + 0.01) + 3.0).index_select(0, row)


COLUMN = 1.0  # metres: edge of the columns within which roughness is measured

INPUTS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "ones": lambda xyz, intensity, voxel: torch.ones_like(intensity),
    "intensity": lambda xyz, intensity, voxel: _clean(intensity),
    "log_intensity": lambda xyz, intensity, voxel: torch.log(_clean(intensity) + 0.01) + 2.3,
    "height": lambda xyz, intensity, voxel: xyz[:, 2],
    "offset": lambda xyz, intensity, voxel: _offset(xyz, voxel),
    "roughness": lambda xyz, intensity, voxel: _roughness(xyz),
}
"""ones: occupancy alone (OpenScene); intensity: of the return, clamped to [0, 1]; log_intensity: its logarithm, shifted
so that a return of 9 % is 0 and the spread is about 1 (most returns are weak, and beside the height in metres their
plain values are too small to be learned from quickly); height: z in metres; offset: z within its voxel, from -1/2 to
1/2 of its edge, which keeps shapes finer than a voxel without saying how high the sensor is; roughness: logarithm of
the standard deviation of z within a column of :data:`COLUMN`, 0 at 4 cm (a road has 1-2 cm, grass 5-10 cm)."""


def point_inputs(
    names: tuple[str, ...], xyz: Float[Tensor, "n 3"], intensity: Float[Tensor, " n"], voxel_size: float
) -> Float[Tensor, "n c"]:
    """One column for each of ``names``, which are keys of :data:`INPUTS`. Raises ValueError for an unknown name."""
    unknown = [name for name in names if name not in INPUTS]
    if unknown or not names:
        raise ValueError(f"Unknown network inputs {unknown}; known are {', '.join(INPUTS)}")
    return torch.stack([INPUTS[name](xyz, intensity, voxel_size) for name in names], dim=1)
