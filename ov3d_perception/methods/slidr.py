"""SLidR (Sautier et al., CVPR 2022), which CLIP2Scene's Table 2 compares with: contrast between segments.

A superpixel is a segment of the image, its superpoint the points that it sees; both are means of their features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ov3d_perception.methods.ppkt import info_nce


@dataclass(frozen=True)
class SlidrStep:
    """One frame's pairs. points: p_i; pixels: x_i; both of unit norm. segment: superpixel of x_i, any numbers.

    temperature: of InfoNCE.
    """

    points: Float[Tensor, "m d"]
    pixels: Float[Tensor, "m d"]
    segment: Int64[Tensor, " m"]
    temperature: float = 0.07


def losses(step: SlidrStep) -> dict[str, Float[Tensor, ""]]:
    """The losses of one frame, by name."""
    return {"slidr": superpixel_info_nce(step.points, step.pixels, step.segment, step.temperature)}


def superpixel_info_nce(
    points: Float[Tensor, "m d"],
    pixels: Float[Tensor, "m d"],
    segment: Int64[Tensor, " m"],
    temperature: float = 0.07,
) -> Float[Tensor, ""]:
    """InfoNCE (:func:`~.ppkt.info_nce`) between superpoints and superpixels, the means of a segment's pairs.

    The means are not brought back to unit norm, so a segment whose pairs disagree weighs less.
    """
    row = torch.unique(segment, return_inverse=True)[1]
    return info_nce(segment_means(points, row), segment_means(pixels, row), temperature)


def segment_means(features: Float[Tensor, "m d"], row: Int64[Tensor, " m"]) -> Float[Tensor, "s d"]:
    """The mean feature of each segment; ``row`` numbers the segments without gaps."""
    count = torch.bincount(row).to(features.dtype)
    return features.new_zeros(len(count), features.shape[1]).index_add(0, row, features) / count[:, None]
