"""Dense features of an image-text ViT: ways of attending in its last block, by name, and the call that runs them."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from open_clip.transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional

from ov3d_perception.language.dense.maskclip import maskclip, smooth_by_keys
from ov3d_perception.language.dense.naclip import naclip
from ov3d_perception.language.dense.scclip import scclip
from ov3d_perception.language.dense.tower import Patches, check_supported, read_image

Way = Callable[[VisionTransformer, Patches], Float[Tensor, "b n e"]]

WAYS: dict[str, Way] = {"maskclip": maskclip, "naclip": naclip, "scclip": scclip}

__all__ = ["WAYS", "check_supported", "dense_features"]


def dense_features(
    visual: VisionTransformer, pixels: Float[Tensor, "b 3 h w"], way: str = "maskclip", key_smoothing: float = 0.0
) -> Float[Tensor, "b e gh gw"]:
    """Unit-norm features in the text space, one per patch, in float32. ``pixels`` are normalised already.

    way: a name of :data:`WAYS`. key_smoothing: sharpness of :func:`.maskclip.smooth_by_keys`, 0 for none.
    """
    patches = read_image(visual, pixels)
    features = functional.normalize(WAYS[way](visual, patches).float(), dim=-1)
    if key_smoothing:
        features = smooth_by_keys(visual, patches, features, key_smoothing)
    return features.transpose(1, 2).unflatten(2, patches.grid)
