"""PPKT (Liu et al., 2021), which CLIP2Scene's Table 2 compares with: contrast between pixels and points.

A point is drawn to the pixel that sees it and away from the other pixels of the step, whatever these show.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class PpktStep:
    """One frame's pairs. points: p_i; pixels: x_i; both of unit norm.

    samples: how many pairs are drawn for the loss. temperature: T.
    """

    points: Float[Tensor, "m d"]
    pixels: Float[Tensor, "m d"]
    samples: int = 4096
    temperature: float = 0.07


def losses(step: PpktStep) -> dict[str, Float[Tensor, ""]]:
    """The losses of one frame, by name. The pairs are drawn by PyTorch's global generator of the CPU."""
    drawn = torch.randperm(len(step.points))[: step.samples].to(step.points.device)
    return {"ppkt": info_nce(step.points[drawn], step.pixels[drawn], step.temperature)}


def info_nce(
    points: Float[Tensor, "m d"], pixels: Float[Tensor, "m d"], temperature: float = 0.07
) -> Float[Tensor, ""]:
    """InfoNCE: - mean_i log( exp(D(p_i, x_i) / T) / sum_j exp(D(p_i, x_j) / T) ); zero without a pair."""
    if len(points) == 0:
        return points.sum() * 0.0
    return F.cross_entropy(points @ pixels.T / temperature, torch.arange(len(points), device=points.device))
