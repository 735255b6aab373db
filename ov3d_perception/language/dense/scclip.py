"""After SC-CLIP (Bai et al., 2024): attention by what the middle of the tower finds alike, beside NACLIP's.

With S the cosines of the patches' tokens behind a middle block, and A of NACLIP (:mod:`.naclip`)::

    C = softmax(g (S - mean S)), what is below the mean cut off
    f = proj(ln_post(W_out ((1 - w) A v + w C v) + b_out))

CLIP's tokens are all alike, so a softmax of plain cosines averages the whole image; without their mean it does not.
The paper has block 9 of 12, g = 3, w = 1/2, and A without locality; here block 7, g = 10, w = 0.7 (docs/teachers.md).
Its repair of outlier tokens, the sum over blocks and the share of the class token are left out.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from open_clip.transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional

from ov3d_perception.language.dense.naclip import attend_nearby
from ov3d_perception.language.dense.tower import Patches, features_of, keys_and_values

_SHARPNESS = 10.0  # g
_SHARE = 0.7  # w


def scclip(visual: VisionTransformer, patches: Patches) -> Float[Tensor, "b n e"]:
    """The equations above. Not normalised."""
    values = keys_and_values(visual, patches.tokens)[1]
    alike = self_correlation(patches.middle).to(values.dtype) @ values
    return features_of(visual, patches.tokens, torch.lerp(attend_nearby(visual, patches), alike, _SHARE))


def self_correlation(tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b n n"]:
    """C: rows sum to 1; no patch takes from one that is less like it than two patches of the image are on average."""
    unit = functional.normalize(tokens.float(), dim=-1)
    cosines = unit @ unit.transpose(1, 2)
    above = cosines - cosines.mean((1, 2), keepdim=True)
    return functional.softmax((_SHARPNESS * above).masked_fill(above < 0, -torch.inf), dim=-1)
