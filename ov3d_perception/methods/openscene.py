"""OpenScene's distillation (Peng et al., CVPR 2023), which GGSD (Wang et al., ECCV 2024) takes as its equation (1).

1. Multi-view fusion: F_2D of a point is the mean feature of the pixels that see it (:func:`fuse_views`).
2. Distillation: the 3D network learns F_3D = F_2D (:func:`losses`), where F_3D = z W by its linear head
   (:mod:`~ov3d_perception.methods.linear_head`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ov3d_perception.methods.linear_head import HeadCosines


@dataclass(frozen=True)
class OpenSceneStep:
    """The inputs of one step's loss.

    student: F_3D of each voxel with a target, any length, as its cosines.
    teacher: F_2D, the fused pixel features of the same voxels; unit norm.
    weight: of each voxel in the mean, non-negative; None weighs all the same (the paper).
    """

    student: HeadCosines
    teacher: Float[Tensor, "m d"]
    weight: Float[Tensor, " m"] | None = None


def losses(step: OpenSceneStep) -> dict[str, Float[Tensor, ""]]:
    """The losses of one step, by name: equation (1) of GGSD."""
    return {"distillation": weighted_mean(1.0 - step.student.with_each(step.teacher), step.weight)}


def fuse_views(
    features: Float[Tensor, "m d"], target: Int[Tensor, " m"], weight: Float[Tensor, " m"], count: int
) -> Float[Tensor, "count d"]:
    """Multi-view fusion: the weighted mean of the unit-norm pixel features of each target, again of unit norm.

    ``target`` names the row (a point or a voxel) that each pixel feature goes to. A row without any feature is zero.
    """
    fused = torch.zeros(count, features.shape[1], dtype=features.dtype, device=features.device)
    fused.index_add_(0, target, features * weight[:, None])
    return F.normalize(fused, dim=1)


def distillation_loss(
    student: Float[Tensor, "m d"], teacher: Float[Tensor, "m d"], weight: Float[Tensor, " m"] | None = None
) -> Float[Tensor, ""]:
    """Mean of 1 - cos(student, teacher) over the pairs: L = 1 - cos(F_3D, F_2D), GGSD's equation (1).

    ``weight`` (non-negative) makes it a weighted mean. Without a pair the loss is zero and still has a gradient.
    """
    return weighted_mean(1.0 - F.cosine_similarity(student.float(), teacher.float(), dim=1), weight)


def weighted_mean(values: Float[Tensor, " m"], weight: Float[Tensor, " m"] | None) -> Float[Tensor, ""]:
    """The mean, each weighing the same without ``weight``. Of no value it is zero and still has a gradient."""
    if weight is None:
        return values.sum() / max(len(values), 1)
    return (values * weight).sum() / weight.sum().clamp_min(torch.finfo(torch.float32).tiny)
