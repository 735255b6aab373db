"""GGSD (Wang et al., ECCV 2024): distillation guided by geometry, then self-distillation.

Notation, as in the paper: f_2D is the fused pixel feature of a point (:func:`~.openscene.fuse_views`), of unit norm
here; f_3D the network's feature of it, of any length; a superpoint is a part of the cloud in one piece; t_l the text
embedding of a word, of unit norm. psi of equations (5) and (6) is the cosine.

The network's head is linear: f_3D = z W of the point feature z. So the mean f_3D of a superpoint is that of its z, and
cosines with words need no f_3D of every point (:mod:`~.linear_head`): all points of a cloud can take part.

A class may have several words. Its score is then the sum of its words' exp(psi / tau): the paper's where it has one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from ov3d_perception.methods.linear_head import HeadCosines
from ov3d_perception.methods.openscene import distillation_loss, weighted_mean


@dataclass(frozen=True)
class GgsdStep:
    """The inputs of one step's losses.

    points: z of every point. head: W.
    seen: rows of the points with a pixel feature, each once; pixels: f_2D of these; weight: of each of them in L_p, not
    negative; None weighs all the same (the paper).
    superpoint: of every point, any numbers, -1 where it has none.
    label: the pseudo-label of every point (:func:`pseudo_labels`, :func:`vote`); None leaves L_sd out.
    text: t. word_class: the class of each word, numbered without gaps.
    """

    points: Float[Tensor, "n c"]
    head: Float[Tensor, "c d"]
    seen: Int64[Tensor, " m"]
    pixels: Float[Tensor, "m d"]
    superpoint: Int64[Tensor, " n"]
    text: Float[Tensor, "w d"]
    word_class: Int64[Tensor, " w"]
    label: Int64[Tensor, " n"] | None = None
    weight: Float[Tensor, " m"] | None = None


@dataclass(frozen=True)
class GgsdOptions:
    """superpoint, self_distillation: weights of L_sp and L_sd beside L_p; 0 leaves one out. tau: of equation (6)."""

    superpoint: float = 1.0
    self_distillation: float = 1.0
    tau: float = 0.01


def losses(step: GgsdStep, options: GgsdOptions) -> dict[str, Float[Tensor, ""]]:
    """The losses of one step by name, times their weights, in the paper's order; their sum is what is minimised."""
    points, head = step.points.float(), step.head.float()
    # Section 3.3, geometry guided distillation: L_d = L_p + L_sp, equation (4)
    cosine = HeadCosines(points[step.seen], head).with_each(step.pixels)
    found = {"pixel_point": weighted_mean(1.0 - cosine, step.weight)}  # equation (1)
    if options.superpoint > 0:  # equations (2) and (3)
        found["superpoint"] = options.superpoint * superpoint_distillation_loss(
            points, head, step.seen, step.pixels, step.superpoint
        )
    if options.self_distillation > 0 and step.label is not None:  # Section 3.4, self-distillation: equation (6)
        psi = HeadCosines(points, head).with_all(step.text)
        found["self_distillation"] = options.self_distillation * self_distillation_loss(
            psi, step.label, step.word_class, options.tau
        )
    return found


def superpoint_distillation_loss(
    points: Float[Tensor, "n c"],
    head: Float[Tensor, "c d"],
    seen: Int64[Tensor, " m"],
    pixels: Float[Tensor, "m d"],
    superpoint: Int64[Tensor, " n"],
) -> Float[Tensor, ""]:
    """L_sp = 1 - cos(F_2D_sp, F_3D_sp), equation (3): its mean over the superpoints that a pixel sees.

    The means of equation (2) are over a superpoint's points with a pixel (f_2D) and over all its points (f_3D): what
    the image says of a part is told to the rest, too. Without such a superpoint it is zero and still has a gradient.
    Arguments as in :class:`GgsdStep`.
    """
    numbers, row = torch.unique(superpoint, return_inverse=True)
    told = torch.zeros(len(numbers), dtype=torch.bool, device=row.device)
    told[row[seen]] = True
    told &= numbers >= 0
    mean_3d = means(points, row, len(numbers))[told] @ head
    mean_2d = means(pixels, row[seen], len(numbers))[told]
    return distillation_loss(mean_3d, mean_2d)


def means(features: Float[Tensor, "m d"], row: Int64[Tensor, " m"], count: int) -> Float[Tensor, "count d"]:
    """Equation (2): the mean of the features of each of ``count`` superpoints; zero for one without any."""
    number = torch.bincount(row, minlength=count).clamp_min(1).to(features.dtype)
    return features.new_zeros(count, features.shape[1]).index_add(0, row, features) / number[:, None]


def class_scores(psi: Float[Tensor, "n w"], word_class: Int64[Tensor, " w"], tau: float = 0.01) -> Float[Tensor, "n l"]:
    """log sum over a class's words of exp(psi / tau); psi / tau where it has one word. Classes have no gaps."""
    classes = int(word_class.max()) + 1
    if classes == len(word_class):
        return (psi / tau)[:, torch.argsort(word_class)]
    return torch.stack([(psi[:, word_class == number] / tau).logsumexp(1) for number in range(classes)], dim=1)


def pseudo_labels(
    psi: Float[Tensor, "n w"],
    word_class: Int64[Tensor, " w"],
    tau: float = 0.01,
    offset: Float[Tensor, " l"] | None = None,
) -> Int64[Tensor, " n"]:
    """Equation (5): the class of the highest score; psi is that of the averaged network (EMA).

    offset: added to each class's score, beyond the paper; None adds nothing.
    """
    scores = class_scores(psi, word_class, tau)
    return (scores if offset is None else scores + offset).argmax(1)


def vote(label: Int64[Tensor, " n"], superpoint: Int64[Tensor, " n"], classes: int) -> Int64[Tensor, " n"]:
    """The most frequent label of each point's superpoint, of equals the lowest; a point of none (-1) keeps its own."""
    row = torch.unique(superpoint, return_inverse=True)[1]
    votes = torch.bincount(row * classes + label, minlength=(int(row.max()) + 1 if len(row) else 0) * classes)
    return torch.where(superpoint >= 0, votes.view(-1, classes).argmax(1)[row], label)


def self_distillation_loss(
    psi: Float[Tensor, "n w"], label: Int64[Tensor, " n"], word_class: Int64[Tensor, " w"], tau: float = 0.01
) -> Float[Tensor, ""]:
    """L_sd, equation (6): mean of -log( exp(psi_label / tau) / sum_i exp(psi_i / tau) ), over the words i.

    The paper's sum is over "the point-language pairs"; here it holds each word once. Zero without a point.
    """
    if len(psi) == 0:
        return psi.sum() * 0.0
    return F.cross_entropy(class_scores(psi, word_class, tau), label)
