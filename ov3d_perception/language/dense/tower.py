"""What every way of attending reads of an image-text ViT: tokens, keys and values of the last block, the way out.

An open_clip ``VisionTransformer`` is a stack of blocks, x <- x + W_out attention(ln_1(x)), x <- x + mlp(ln_2(x)). The
ways of attending in this folder change nothing but the last block's attention, so all of them share the tokens that
enter it (:func:`read_image`) and what becomes of the values that they mix (:func:`features_of`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from ov3d_perception.errors import EncoderError

_MIDDLE = 7 / 12  # of the blocks: where patches of one thing are most alike (docs/teachers.md)


@dataclass(frozen=True)
class Patches:
    """An image's patches as the last block finds them; the class token is left out.

    tokens: enter the last block. middle: leave the block at seven twelfths of the tower. grid: (rows, columns).
    """

    tokens: Float[Tensor, "b n c"]
    middle: Float[Tensor, "b n c"]
    grid: tuple[int, int]


def check_supported(visual: nn.Module) -> None:
    """Raise :class:`EncoderError` for an image tower whose patches have no feature of their own in the text space."""
    if not isinstance(visual, VisionTransformer):
        raise EncoderError(
            f"Dense features need open_clip's own VisionTransformer, but this image tower is a {type(visual).__name__}",
            "Choose a model such as ViT-B-16-quickgelu, ViT-B-16, ViT-L-14 or ViT-L-14-336 (no ResNet, no timm tower)",
        )
    if visual.attn_pool is not None or visual.pool_type not in ("tok", "avg"):
        raise EncoderError(
            f"This ViT pools with {visual.pool_type!r} or an attention pool; its patches have no feature of their own",
            "Choose a model pooled by the class token or by the average",
        )
    if not isinstance(visual.transformer.resblocks[-1], ResidualAttentionBlock):
        raise EncoderError("The last block of this ViT is not a plain attention block", "Choose a standard CLIP ViT")


def resize_position_embedding(
    embedding: Float[Tensor, "n d"], old: tuple[int, int], new: tuple[int, int]
) -> Float[Tensor, "m d"]:
    """Bicubic interpolation of a learned position embedding from one patch grid to another; the class row is kept."""
    if old == new:
        return embedding
    grid = embedding[1:].reshape(1, *old, -1).permute(0, 3, 1, 2).float()
    grid = functional.interpolate(grid, size=new, mode="bicubic", align_corners=False)
    return torch.cat([embedding[:1].float(), grid.flatten(2).transpose(1, 2)[0]]).to(embedding.dtype)


def tokens_before_last_block(
    visual: VisionTransformer, pixels: Float[Tensor, "b 3 h w"]
) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b n c"]]:
    """Class and patch tokens as they enter the last block, and as they leave the middle one; sides of whole patches."""
    x = visual.conv1(pixels)
    grid = (x.shape[2], x.shape[3])
    x = x.flatten(2).transpose(1, 2)
    position = resize_position_embedding(visual.positional_embedding, visual.grid_size, grid)
    token = visual.class_embedding.to(x.dtype).expand(len(x), 1, -1)
    x = visual.ln_pre(torch.cat([token, x], dim=1) + position.to(x.dtype))
    blocks = visual.transformer.resblocks
    middle = x
    for number, block in enumerate(blocks[:-1], start=1):
        x = block(x)
        if number == round(len(blocks) * _MIDDLE):
            middle = x
    return x, middle


def read_image(visual: VisionTransformer, pixels: Float[Tensor, "b 3 h w"]) -> Patches:
    """The patches of normalised images whose sides are whole patches."""
    height, width = visual.patch_size
    tokens, middle = tokens_before_last_block(visual, pixels)
    return Patches(tokens[:, 1:], middle[:, 1:], (pixels.shape[2] // height, pixels.shape[3] // width))


def keys_and_values(
    visual: VisionTransformer, tokens: Float[Tensor, "b n c"]
) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b n c"]]:
    """W_k ln_1(x) + b_k and W_v ln_1(x) + b_v of the last block."""
    block, width = last_block(visual), tokens.shape[-1]
    weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
    both = functional.linear(block.ln_1(tokens), weight[width:], None if bias is None else bias[width:])
    return both[..., :width], both[..., width:]


def heads(visual: VisionTransformer, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b h n d"]:
    """Channels split among the heads of the last block."""
    return x.unflatten(2, (last_block(visual).attn.num_heads, -1)).transpose(1, 2)


def last_block(visual: VisionTransformer) -> ResidualAttentionBlock:
    """The block whose attention the ways replace."""
    return cast(ResidualAttentionBlock, visual.transformer.resblocks[-1])


def features_of(
    visual: VisionTransformer, tokens: Float[Tensor, "b n c"], mixed: Float[Tensor, "b n c"]
) -> Float[Tensor, "b n e"]:
    """Values that an attention has mixed, taken to the text space. Not normalised.

    Pooled by the class token: f = proj(ln_post(W_out mixed + b_out)), without the residual and the MLP, which act on
    the class token's own content. Pooled by the average (``pool_type: avg``), the embedding of an image is the mean of
    its patches' own outputs, so for those residual and MLP are kept. Where open_clip puts the final norm after the
    pool, it is applied to each patch.
    """
    block = last_block(visual)
    value = block.ls_1(block.attn.out_proj(mixed))
    if visual.pool_type == "avg":
        value = tokens + value
        value = value + block.ls_2(block.mlp(block.ln_2(value)))
    value = visual.ln_post(value)
    return value if visual.proj is None else value @ visual.proj.to(value.dtype)
