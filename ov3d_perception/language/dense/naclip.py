"""NACLIP (Hajimiri et al., WACV 2025): each patch attends to patches with alike keys, those near it first.

In each head of the last block, with keys k and values v of width d, and the patch's place p on the grid::

    A = softmax(k k^T / sqrt(d) + G)      G_ij = exp(-|p_i - p_j|^2 / (2 s^2)),  s = 5 patches
    f = proj(ln_post(W_out A v + b_out))

The class token takes no part. s is meant for a tower's own crop of 14 x 14 patches, and is scaled with the grid's rows.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from open_clip.transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional

from ov3d_perception.language.dense.tower import Patches, features_of, heads, keys_and_values

_REACH = 5 / 14  # s, in rows of the grid


def naclip(visual: VisionTransformer, patches: Patches) -> Float[Tensor, "b n e"]:
    """The equations above. Not normalised."""
    return features_of(visual, patches.tokens, attend_nearby(visual, patches))


def attend_nearby(visual: VisionTransformer, patches: Patches) -> Float[Tensor, "b n c"]:
    """A v, heads side by side."""
    keys, values = keys_and_values(visual, patches.tokens)
    near = nearness(patches.grid).to(keys)
    k, v = heads(visual, keys), heads(visual, values)
    return functional.scaled_dot_product_attention(k, k, v, attn_mask=near).transpose(1, 2).flatten(2)


@lru_cache(maxsize=8)
def nearness(grid: tuple[int, int]) -> Float[Tensor, "n n"]:
    """G for a grid of (rows, columns)."""
    rows, columns = (torch.arange(side, dtype=torch.float32) for side in grid)
    down, right = (rows[:, None] - rows).square(), (columns[:, None] - columns).square()
    squared = (down[:, None, :, None] + right[None, :, None, :]).reshape(grid[0] * grid[1], -1)
    return torch.exp(-squared / (2 * (_REACH * grid[0]) ** 2))
