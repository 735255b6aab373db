"""What CLIP2Scene is compared with (its Table 2): PPKT (Liu et al., 2021) and SLidR (Sautier et al., CVPR 2022).

Both draw a point to the pixel that sees it and away from other pixels, whatever these show. Features are of unit norm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


def info_nce(
    points: Float[Tensor, "m d"], pixels: Float[Tensor, "m d"], temperature: float = 0.07
) -> Float[Tensor, ""]:
    """PPKT's loss: - mean_i log( exp(D(p_i, x_i) / T) / sum_j exp(D(p_i, x_j) / T) ); zero without a pair."""
    if len(points) == 0:
        return points.sum() * 0.0
    return F.cross_entropy(points @ pixels.T / temperature, torch.arange(len(points), device=points.device))


def superpixel_info_nce(
    points: Float[Tensor, "m d"],
    pixels: Float[Tensor, "m d"],
    segment: Int64[Tensor, " m"],
    temperature: float = 0.07,
) -> Float[Tensor, ""]:
    """SLidR's loss: :func:`info_nce` between superpoints and superpixels, the means of a segment's pairs.

    The means are not brought back to unit norm, so a segment whose pairs disagree weighs less.
    """
    row = torch.unique(segment, return_inverse=True)[1]
    return info_nce(segment_means(points, row), segment_means(pixels, row), temperature)


def segment_means(features: Float[Tensor, "m d"], row: Int64[Tensor, " m"]) -> Float[Tensor, "s d"]:
    """The mean feature of each segment; ``row`` numbers the segments without gaps."""
    count = torch.bincount(row).to(features.dtype)
    return features.new_zeros(len(count), features.shape[1]).index_add(0, row, features) / count[:, None]
