"""What the network is told about a point, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def _clean(intensity: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return torch.nan_to_num(intensity, nan=0.0, posinf=1.0, neginf=0.0).clamp(0.0, 1.0)


INPUTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ones": lambda xyz, intensity: torch.ones_like(intensity),
    "intensity": lambda xyz, intensity: _clean(intensity),
    "log_intensity": lambda xyz, intensity: torch.log(_clean(intensity) + 0.01) + 2.3,
    "height": lambda xyz, intensity: xyz[:, 2],
}
"""ones: occupancy alone (OpenScene); intensity: of the return, clamped to [0, 1]; log_intensity: its logarithm, shifted
so that a return of 9 % is 0 and the spread is about 1 (most returns are weak, and beside the height in metres their
plain values are too small to be learned from quickly); height: z in metres."""


def point_inputs(
    names: tuple[str, ...], xyz: Float[Tensor, "n 3"], intensity: Float[Tensor, " n"]
) -> Float[Tensor, "n c"]:
    """One column for each of ``names``, which are keys of :data:`INPUTS`. Raises ValueError for an unknown name."""
    unknown = [name for name in names if name not in INPUTS]
    if unknown or not names:
        raise ValueError(f"Unknown network inputs {unknown}; known are {', '.join(INPUTS)}")
    return torch.stack([INPUTS[name](xyz, intensity) for name in names], dim=1)
