"""What the network is told about a point, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

INPUTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ones": lambda xyz, intensity: torch.ones_like(intensity),
    "intensity": lambda xyz, intensity: torch.nan_to_num(intensity, nan=0.0, posinf=1.0, neginf=0.0).clamp(0.0, 1.0),
    "height": lambda xyz, intensity: xyz[:, 2],
}
"""ones: occupancy alone (OpenScene); intensity: of the return, clamped to [0, 1]; height: z in metres."""


def point_inputs(
    names: tuple[str, ...], xyz: Float[Tensor, "n 3"], intensity: Float[Tensor, " n"]
) -> Float[Tensor, "n c"]:
    """One column for each of ``names``, which are keys of :data:`INPUTS`. Raises ValueError for an unknown name."""
    unknown = [name for name in names if name not in INPUTS]
    if unknown or not names:
        raise ValueError(f"Unknown network inputs {unknown}; known are {', '.join(INPUTS)}")
    return torch.stack([INPUTS[name](xyz, intensity) for name in names], dim=1)
