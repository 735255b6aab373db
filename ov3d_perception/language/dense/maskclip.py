"""MaskCLIP (Zhou et al., ECCV 2022, section 3.2): no attention at all, each patch keeps its own value.

A CLIP ViT sums the values of its last attention over the image and sends the sum through the output projection, the
final norm and the projection to the text space. Leave out the sum and every patch has a feature in the text space::

    v = W_v ln_1(x) + b_v            x: tokens that enter the last block
    f = proj(ln_post(W_out v + b_out))

Key smoothing, after its equation (4): each patch takes the mean of all patches' features, weighted by the softmax over
j of s * cos(k_i, k_j). The paper weighs by the plain cosines; but CLIP's keys are all alike (half of the cosines are
above 0.6 in a street), so that blurs the whole image into one word.
"""

from __future__ import annotations

from jaxtyping import Float
from open_clip.transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional

from ov3d_perception.language.dense.tower import Patches, features_of, keys_and_values


def maskclip(visual: VisionTransformer, patches: Patches) -> Float[Tensor, "b n e"]:
    """The equations above. Not normalised."""
    return value_path(visual, patches.tokens)


def value_path(visual: VisionTransformer, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b n e"]:
    """The features of tokens that enter the last block, each by itself. Not normalised."""
    return features_of(visual, tokens, keys_and_values(visual, tokens)[1])


def smooth_by_keys(
    visual: VisionTransformer, patches: Patches, features: Float[Tensor, "b n e"], sharpness: float
) -> Float[Tensor, "b n e"]:
    """Key smoothing of unit-norm features with sharpness s."""
    keys = functional.normalize(keys_and_values(visual, patches.tokens)[0].float(), dim=-1)
    weights = functional.softmax(sharpness * (keys @ keys.transpose(1, 2)), dim=-1)
    return functional.normalize(weights @ features, dim=-1)
