"""Words of pixels, after MaskCLIP (Zhou et al., ECCV 2022): the pseudo labels that CLIP2Scene starts from.

The dense features themselves are made by :mod:`ov3d_perception.language.dense`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor


def pixel_words(
    pixels: Float[Tensor, "m d"], text: Float[Tensor, "w d"], allowed: Bool[Tensor, "m w"] | None = None
) -> Int64[Tensor, " m"]:
    """The word of each pixel (or point): the row of ``text`` with the highest cosine, among those ``allowed``."""
    similarity = pixels @ text.T
    if allowed is not None:
        similarity = similarity.masked_fill(~allowed, -torch.inf)
    return similarity.argmax(1)


def prompt_denoising(
    dense: Float[Tensor, "d gh gw"], text: Float[Tensor, "w d"], logit_scale: float, threshold: float
) -> Bool[Tensor, " w"]:
    """Prompt denoising, section 3.3: the words whose probability reaches ``threshold`` somewhere in the image.

    All words where none does, so that every pixel has one.
    """
    highest = F.softmax(logit_scale * torch.einsum("dij,wd->ijw", dense, text), dim=-1).amax((0, 1))
    present = highest >= threshold
    return present if bool(present.any()) else torch.ones_like(present)
