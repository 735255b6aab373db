"""Dense features from an image-text ViT, after MaskCLIP (Zhou et al., ECCV 2022, section 3.2).

A CLIP ViT sums the values of its last attention over the image and sends the sum through the output projection, the
final norm and the projection to the text space. Leave out the sum and every patch has a feature in the text space::

    v = W_out (W_v ln_1(x) + b_v) + b_out        x: tokens that enter the last block
    f = proj(ln_post(v))                         one per patch, no attention, no residual, no MLP

For a ViT pooled by its class token that is all: the residual and the MLP of the last block act on the class token's own
content. For a ViT pooled by the average of its tokens (``pool_type: avg``), the embedding of the image is the mean of
the patches' own outputs, residual and MLP included; so for those the last block runs in full, with an attention that
sees nothing but the patch itself. Where open_clip puts the final norm after the pool, it is applied to each patch.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from ov3d_perception.errors import EncoderError


def check_supported(visual: nn.Module) -> None:
    """Raise :class:`EncoderError` for an image tower without the parts that MaskCLIP reads."""
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


def tokens_before_last_block(visual: VisionTransformer, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
    """Class and patch tokens as they enter the last block, for images of any size that is a multiple of the patch."""
    x = visual.conv1(pixels)
    grid = (x.shape[2], x.shape[3])
    x = x.flatten(2).transpose(1, 2)
    position = resize_position_embedding(visual.positional_embedding, visual.grid_size, grid)
    token = visual.class_embedding.to(x.dtype).expand(len(x), 1, -1)
    x = visual.ln_pre(torch.cat([token, x], dim=1) + position.to(x.dtype))
    for block in visual.transformer.resblocks[:-1]:
        x = block(x)
    return x


def value_path(visual: VisionTransformer, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n e"]:
    """The equations above, for tokens that enter the last block. Not normalised."""
    block = visual.transformer.resblocks[-1]
    attention, width = block.attn, tokens.shape[-1]
    bias = None if attention.in_proj_bias is None else attention.in_proj_bias[2 * width :]
    value = functional.linear(block.ln_1(tokens), attention.in_proj_weight[2 * width :], bias)
    value = block.ls_1(attention.out_proj(value))
    if visual.pool_type == "avg":
        value = tokens + value
        value = value + block.ls_2(block.mlp(block.ln_2(value)))
    value = visual.ln_post(value)
    return value if visual.proj is None else value @ visual.proj.to(value.dtype)


def key_similarity(visual: VisionTransformer, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n n"]:
    """Cosines between the keys of the last attention, for tokens that enter its block."""
    block, width = visual.transformer.resblocks[-1], tokens.shape[-1]
    bias = None if block.attn.in_proj_bias is None else block.attn.in_proj_bias[width : 2 * width]
    keys = functional.linear(block.ln_1(tokens), block.attn.in_proj_weight[width : 2 * width], bias)
    keys = functional.normalize(keys.float(), dim=-1)
    return keys @ keys.transpose(1, 2)


def dense_features(
    visual: VisionTransformer, pixels: Float[Tensor, "b 3 h w"], key_smoothing: float = 0.0
) -> Float[Tensor, "b e gh gw"]:
    """Unit-norm features in the text space, one per patch, in float32. ``pixels`` are normalised already.

    key_smoothing: sharpness s, 0 for none: each patch takes the mean of all patches' features, weighted by the softmax
    of s * cos(k_i, k_j) over j. MaskCLIP's equation (4) weighs by the plain cosines; but CLIP's keys are all alike
    (half of the cosines are above 0.6 in a street), so that blurs the whole image into one word.
    """
    patch_height, patch_width = visual.patch_size
    grid = (pixels.shape[2] // patch_height, pixels.shape[3] // patch_width)
    tokens = tokens_before_last_block(visual, pixels)[:, 1:]
    features = functional.normalize(value_path(visual, tokens).float(), dim=-1)
    if key_smoothing:
        weights = functional.softmax(key_smoothing * key_similarity(visual, tokens), dim=-1)
        features = functional.normalize(weights @ features, dim=-1)
    return features.transpose(1, 2).unflatten(2, grid)
