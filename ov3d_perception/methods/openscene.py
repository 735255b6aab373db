"""OpenScene's distillation (Peng et al., CVPR 2023), which GGSD (Wang et al., ECCV 2024) takes as its equation (1).

A point that pixels see gets the mean of those pixels' features; the 3D network learns to say the same of it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


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
    distance = 1.0 - F.cosine_similarity(student.float(), teacher.float(), dim=1)
    if weight is None:
        weight = torch.ones_like(distance)
    return (distance * weight).sum() / weight.sum().clamp_min(torch.finfo(torch.float32).tiny)


def agreement_loss(
    student: Float[Tensor, "m d"],
    teacher: Float[Tensor, "m d"],
    text: Float[Tensor, "p d"],
    logit_scale: float,
    weight: Float[Tensor, " m"] | None = None,
) -> Float[Tensor, ""]:
    """Mean KL divergence of the student's from the teacher's softmax over the prompts ``text`` (unit norm).

    Not in OpenScene; an optional addition. Equation (1) moves slowly where the features of different things are close
    to each other, as CLIP's are; this weighs the differences that the words ask for. No annotation enters.
    """
    said = F.softmax(logit_scale * teacher.float() @ text.T, dim=1)
    heard = F.log_softmax(logit_scale * F.normalize(student.float(), dim=1) @ text.T, dim=1)
    divergence = F.kl_div(heard, said, reduction="none").sum(1)
    if weight is None:
        weight = torch.ones_like(divergence)
    return (divergence * weight).sum() / weight.sum().clamp_min(torch.finfo(torch.float32).tiny)
