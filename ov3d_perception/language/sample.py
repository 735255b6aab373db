"""Features at pixels: bilinear between patch centres."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def sample_features(
    dense: Float[Tensor, "d gh gw"], uv: Float[Tensor, "m 2"], image_size: tuple[int, int]
) -> Float[Tensor, "m d"]:
    """Unit-norm features of ``dense`` at the pixels ``uv`` of an image of ``image_size`` = (height, width).

    A pixel's centre is at integer (u, v); the image's corner at (-0.5, -0.5) is the corner of the first patch, so patch
    (i, j) is centred on ((j + 0.5) * width / gw - 0.5, (i + 0.5) * height / gh - 0.5). Beyond the outermost centres the
    nearest patch counts.
    """
    height, width = image_size
    scale = torch.tensor([2.0 / width, 2.0 / height], device=dense.device)
    where = (uv.to(dense.device, torch.float32) + 0.5) * scale - 1.0  # corners at -1 and 1: align_corners=False
    out = functional.grid_sample(
        dense[None].float(), where[None, None], mode="bilinear", padding_mode="border", align_corners=False
    )
    return functional.normalize(out[0, :, 0].T, dim=-1)
