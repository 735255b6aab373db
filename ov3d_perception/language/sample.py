"""Features at pixels: bilinear between patch centres."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
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


def sample_weights(
    dense: Float[Tensor, "d gh gw"], uv: Float[Tensor, "m 2"], image_size: tuple[int, int]
) -> tuple[Int64[Tensor, "m 4"], Float[Tensor, "m 4"]]:
    """:func:`sample_features` as sums over patches: row i is the sum over k of weight[i, k] * patch[i, k].

    The patches are columns of ``dense.flatten(1)``. Sums of many pixels' features so need not one feature a pixel: the
    length of an interpolated feature comes from the products of neighbouring patches.
    """
    (height, width), (rows, columns) = image_size, dense.shape[1:]
    u = ((uv[:, 0] + 0.5) * (columns / width) - 0.5).clamp(0, columns - 1)
    v = ((uv[:, 1] + 0.5) * (rows / height) - 0.5).clamp(0, rows - 1)
    left, top = u.floor().long(), v.floor().long()
    right, below = (left + 1).clamp(max=columns - 1), (top + 1).clamp(max=rows - 1)
    x, y = u - left, v - top
    weight = torch.stack([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y], dim=1)
    patch = torch.stack([row * columns + column for row in (top, below) for column in (left, right)], dim=1)
    wide = functional.pad(dense.float(), (0, 1, 0, 1))
    corner = (wide[:, :-1, :-1], wide[:, :-1, 1:], wide[:, 1:, :-1], wide[:, 1:, 1:])
    squared = torch.zeros_like(u)
    for a in range(4):
        for b in range(a, 4):
            product = (corner[a] * corner[b]).sum(0).flatten()[patch[:, 0]]
            squared += (1 + (a != b)) * weight[:, a] * weight[:, b] * product
    return patch, weight / squared.clamp_min(1e-24).sqrt()[:, None]
