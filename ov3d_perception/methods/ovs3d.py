"""3D-OVS (Liu et al., NeurIPS 2023): CLIP's words and DINO's edges into a radiance field, without labels.

Notation, as in the paper: for a ray r, C^(r) is its rendered colour, F^(r) its rendered CLIP feature, S(r) its weights
of the N_s scales, F(r) the CLIP features of its pixel at these scales; T the embeddings of the C class texts; f DINO's
features of the places of a patch. Equations (1) and (2), the rendering, are in ``fields/``.

Where the paper leaves something open, its release decides, and it is said here: relevancies are normalised for each
scale before they are selected (the paper: after), and become a distribution over the classes by a softmax, without
which equation (8) is no divergence. Sums over rays are means.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class RayBatch:
    """R: n rays at random pixels. colour C^ and wanted C: None while colours are not trained; feature F^, any length;
    scales S; teacher F, unit norm; relevancy: of each scale and class, normalised by :func:`normalised`."""

    colour: Float[Tensor, "n 3"] | None
    wanted: Float[Tensor, "n 3"] | None
    feature: Float[Tensor, "n d"]
    scales: Float[Tensor, "n s"]
    teacher: Float[Tensor, "n s d"]
    relevancy: Float[Tensor, "n s c"]


@dataclass(frozen=True)
class PatchBatch:
    """p patches of m places each. feature: F^ of the place's ray; dino: f."""

    feature: Float[Tensor, "p m d"]
    dino: Float[Tensor, "p m e"]


@dataclass(frozen=True)
class Ovs3dOptions:
    """tau, b, positive, negative: tau of equation (10), b of (12), lambda_pos and lambda_neg of (14).

    relevancy: weight of equation (8); logit_scale: of the cosines in equation (5), 1 as printed.
    free_length: in equation (5) products of F^ and T instead, as the release: F^ is as long as suits equation (8), and
    its direction need turn less. selection: False is
    the ablation without a selection volume, all scales alike. form: of the patches' loss, "rebalanced", equation (14);
    "plain", equation (12) a pair and times ``positive``; "none".
    """

    tau: float = 0.2
    b: float = 0.7
    positive: float = 200.0
    negative: float = 0.2
    relevancy: float = 1.0
    logit_scale: float = 1.0
    free_length: bool = False
    selection: bool = True
    form: str = "rebalanced"


def losses(
    rays: RayBatch, patches: PatchBatch | None, text: Float[Tensor, "c d"], options: Ovs3dOptions
) -> dict[str, Float[Tensor, ""]]:
    """The losses of a step by name, times their weights, in the paper's order; their sum is trained.

    text: T, unit norm.
    """
    found: dict[str, Tensor] = {}
    scales = rays.scales if options.selection else torch.full_like(rays.scales, 1 / rays.scales.shape[1])
    # Section 3.1, L_supervision: equation (3)
    if rays.colour is not None and rays.wanted is not None:
        found["colour"] = F.mse_loss(rays.colour, rays.wanted)
    found["feature"] = supervision_loss(rays.feature, scales, rays.teacher)
    # Section 3.2, relevancy-distribution alignment: equations (4) to (8)
    if options.relevancy > 0:
        z = rays.feature @ text.T if options.free_length else logits(rays.feature, text)
        probability = F.softmax(options.logit_scale * z, dim=-1)
        wanted = F.softmax(selected(scales, rays.relevancy), dim=-1)
        found["rda"] = options.relevancy * js_divergence(probability, wanted).mean()
    # Section 3.3, feature-distribution alignment: equations (9) to (14)
    if patches is not None and options.form != "none":
        sharp = F.softmax(logits(patches.feature, text) / options.tau, dim=-1)
        found["fda"] = fda_loss(correlation(patches.dino), distribution_correlation(sharp), options)
    return found


def selected(scales: Float[Tensor, "n s"], values: Float[Tensor, "n s c"]) -> Float[Tensor, "n c"]:
    """``S(r) F(r)`` and ``S_I ...`` of equations (3) and (6): the scales' weighted sum."""
    return torch.einsum("ns,nsc->nc", scales, values)


def supervision_loss(
    feature: Float[Tensor, "n d"], scales: Float[Tensor, "n s"], teacher: Float[Tensor, "n s d"]
) -> Float[Tensor, ""]:
    """Equation (3), its second term: minus the cosine of the rendered and the selected feature."""
    return -F.cosine_similarity(feature, selected(scales, teacher), dim=-1).mean()


def logits(feature: Float[Tensor, "*n d"], text: Float[Tensor, "c d"]) -> Float[Tensor, "*n c"]:
    """z, equation (4): cosines with the classes' texts."""
    return F.normalize(feature, dim=-1) @ text.T


def relevancy(features: Float[Tensor, "s *n d"], text: Float[Tensor, "c d"]) -> Float[Tensor, "s *n c"]:
    """Equation (6) before the selection: how much each pixel of an image is like each class, at each scale."""
    return logits(features, text)


def normalised(maps: Float[Tensor, "s n c"]) -> Float[Tensor, "s n c"]:
    """R-bar, equation (7): each scale's and class's map of one image of n pixels, stretched to [0, 1]."""
    low, high = maps.amin(1, keepdim=True), maps.amax(1, keepdim=True)
    return (maps - low) / (high - low).clamp_min(1e-6)


def js_divergence(p: Float[Tensor, "*n c"], q: Float[Tensor, "*n c"]) -> Float[Tensor, "*n"]:
    """Equations (8) and (11) for one pair of distributions: Jensen and Shannon's divergence, in nats."""
    return entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2


def entropy(p: Float[Tensor, "*n c"]) -> Float[Tensor, "*n"]:
    """Shannon's, in nats. The divergence from the mean M is ``H(M) - (H(P) + H(Q)) / 2``: one logarithm, not two."""
    return -torch.xlogy(p, p.clamp_min(1e-12)).sum(-1)


def correlation(dino: Float[Tensor, "p m e"]) -> Float[Tensor, "p m m"]:
    """Corr_F, equation (9): cosines of all pairs of places of a patch."""
    unit = F.normalize(dino, dim=-1)
    return unit @ unit.transpose(1, 2)


def distribution_correlation(p: Float[Tensor, "p m c"]) -> Float[Tensor, "p m m"]:
    """Corr_D, equation (11): the divergence of all pairs of places of a patch. p: sharp, equation (10)."""
    own = entropy(p)
    mean = (p[:, :, None] + p[:, None]) / 2
    return entropy(mean) - (own[:, :, None] + own[:, None]) / 2


def fda_loss(
    corr_f: Float[Tensor, "p m m"], corr_d: Float[Tensor, "p m m"], options: Ovs3dOptions
) -> Float[Tensor, ""]:
    """Equation (14): of similar pairs the divergence falls, of others it grows, each counted on its own.

    "plain" is equation (12), the paper's ablation without re-balancing.
    """
    above = corr_f - options.b
    if options.form == "plain":
        return options.positive * (above * corr_d).mean()
    positive, negative = above.clamp_min(0), above.clamp_max(0)  # equation (13)
    return options.positive * _mean_of(positive, corr_d) + options.negative * _mean_of(negative, corr_d)


def _mean_of(weight: Tensor, corr_d: Tensor) -> Tensor:
    return (weight * corr_d).sum() / weight.count_nonzero().clamp_min(1)
