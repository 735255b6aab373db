"""CLIP2Scene (Chen et al., CVPR 2023): CLIP's words and pixels teach a 3D network, without labels.

Notation, as in the paper: x_i is the feature of a pixel, p_i of the point that it sees, t_i the embedding of the words
that MaskCLIP gives the pixel, D the scalar product. x, p and t are of unit norm here; the paper does not say, but
equation (1) has no least value otherwise. p of equation (1) and p of equations (2)-(4) come from two linear heads.

A word and a class are two things here, since a class may have several words: two words of one class never repel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ov3d_perception.methods.kl import agreement_loss
from ov3d_perception.methods.maskclip import pixel_words


@dataclass(frozen=True)
class Clip2SceneStep:
    """One frame: its K sweeps' points that pixels see, one row a pair.

    pixels: x_i, unit norm. word: row in ``text`` of t_i, MaskCLIP's word of the pixel.
    semantic: output of the head of equation (1) for the point; spatial: of the head of equation (2); any length; None
    leaves the equation out.
    sweep: of the point, 0 is the first (key) sweep. grid: cell of the point's place, numbered without gaps.
    text: embeddings of the words, unit norm. word_class: class of each word.
    self_trained: whether the network's own words take the place of MaskCLIP's in this step.
    """

    pixels: Float[Tensor, "m d"]
    word: Int64[Tensor, " m"]
    semantic: Float[Tensor, "m d"]
    spatial: Float[Tensor, "m d"] | None
    sweep: Int64[Tensor, " m"]
    grid: Int64[Tensor, " m"]
    text: Float[Tensor, "w d"]
    word_class: Int64[Tensor, " w"]
    self_trained: bool = False


@dataclass(frozen=True)
class Clip2SceneOptions:
    """semantic, spatial: weights of equations (1) and (2), alpha and beta; 0 leaves one out.

    tau, attention: the temperatures tau of equation (1) and lambda of equations (3) and (4).
    form: of equation (1): "equation" as printed; "release", the cross-entropy of the paper's release over the nearest
    words; "soft", the divergence from the pixels' own softmax over the words (MaskCLIP's words only).
    logit_scale: of CLIP, for the forms over words.
    class_weight: weight of each pair by its word, for the forms over words; None weighs all the same.
    """

    semantic: float = 1.0
    spatial: float = 1.0
    tau: float = 0.5
    attention: float = 1.0
    form: str = "equation"
    logit_scale: float = 100.0
    class_weight: Callable[[Int64[Tensor, " m"]], Float[Tensor, " m"]] | None = None


def losses(step: Clip2SceneStep, options: Clip2SceneOptions) -> dict[str, Float[Tensor, ""]]:
    """The losses of one frame by name, times their weights, in the paper's order."""
    points = F.normalize(step.semantic, dim=1)
    # Section 3.2.3, switchable self-training: the words t_i are MaskCLIP's or the network's own.
    word = pixel_words(points.detach(), step.text) if step.self_trained else step.word
    found: dict[str, Tensor] = {}
    if options.semantic > 0:  # Section 3.2.1, semantic consistency: equation (1)
        found["semantic"] = options.semantic * _semantic(step, options, points, word)
    if options.spatial > 0 and step.spatial is not None:
        # Section 3.2.2, semantic-guided spatio-temporal consistency: equations (2) to (4)
        first = first_sweep_words(word, step.grid, step.sweep, len(step.text))
        spatial = F.normalize(step.spatial, dim=1)
        found["spatial"] = options.spatial * spatio_temporal_consistency(
            step.pixels, spatial, step.text[first], step.grid, options.attention
        )
    return found


def _semantic(
    step: Clip2SceneStep, options: Clip2SceneOptions, points: Float[Tensor, "m d"], word: Int64[Tensor, " m"]
) -> Float[Tensor, ""]:
    """Equation (1) in the form that ``options`` names."""
    if options.form == "equation":
        return semantic_consistency(points, word, step.text, step.word_class, options.tau)
    weight = None if options.class_weight is None else options.class_weight(word)
    if options.form == "soft" and not step.self_trained:
        return agreement_loss(points, step.pixels, step.text, options.logit_scale, weight)
    logits = step.semantic if options.form == "release" else options.logit_scale * points
    return word_cross_entropy(logits, word, step.text, weight)


def semantic_consistency(
    points: Float[Tensor, "m d"],
    word: Int64[Tensor, " m"],
    text: Float[Tensor, "w d"],
    word_class: Int64[Tensor, " w"],
    tau: float = 0.5,
) -> Float[Tensor, ""]:
    """Semantic consistency regularisation, equation (1): points to their class's words, others away from these words.

    L = - sum_c log( sum_{i in c} exp(D(t_i, p_i) / tau) / sum_{i in c, j not in c} exp(D(t_i, p_j) / tau) )

    The sum is over classes that have a point while another class has one too; without such a class the loss is zero.
    As printed, the lower sum holds the points of other classes alone: this is no softmax.

    Args:
        points: p, of unit norm.
        word: row of t_i in ``text`` for each point.
        text: of unit norm.
        word_class: class c of each word.
        tau: temperature.
    """
    present, count = torch.unique(word, return_counts=True)
    if len(torch.unique(word_class[present])) < 2:
        return points.sum() * 0.0
    own_class, column_class = word_class[word], word_class[present]
    similarity = points @ text[present].T / tau
    attracted = similarity.gather(1, torch.searchsorted(present, word)[:, None])[:, 0]
    foreign = similarity.masked_fill(own_class[:, None] == column_class[None, :], -torch.inf)
    repelled = foreign.logsumexp(0) + count.to(similarity.dtype).log()  # a word counts once a point
    loss = points.new_zeros(())
    for c in torch.unique(column_class):
        positives = attracted[own_class == c].logsumexp(0)
        loss = loss - positives + repelled[column_class == c].logsumexp(0)
    return loss


def word_cross_entropy(
    points: Float[Tensor, "m d"],
    word: Int64[Tensor, " m"],
    text: Float[Tensor, "w d"],
    weight: Float[Tensor, " m"] | None = None,
) -> Float[Tensor, ""]:
    """The form of equation (1) in the paper's release: the cross-entropy of each point over the words.

    L = - mean_i log( exp(D(t_i, p_i)) / sum_w exp(D(t_w, p_i)) ), zero without a point; p is not of unit norm here.
    ``weight`` (non-negative, of mean one) makes it a weighted mean; the release has none.
    """
    if len(points) == 0:
        return points.sum() * 0.0
    loss = F.cross_entropy(points @ text.T, word, reduction="none")
    return (loss if weight is None else loss * weight).mean()


def first_sweep_words(
    word: Int64[Tensor, " m"], grid: Int64[Tensor, " m"], sweep: Int64[Tensor, " m"], words: int
) -> Int64[Tensor, " m"]:
    """The word t^1 of each pair's grid: the most frequent word of the grid's pairs of the first sweep.

    A grid without a point of the first sweep takes the most frequent word of all its pairs; of equals, the lower row.
    """
    cells = int(grid.max()) + 1 if len(grid) else 0

    def votes(chosen: Bool[Tensor, " m"]) -> Int64[Tensor, "n w"]:
        return torch.bincount(grid[chosen] * words + word[chosen], minlength=cells * words).view(cells, words)

    first, every = votes(sweep == 0), votes(torch.ones_like(sweep, dtype=torch.bool))
    return torch.where(first.any(1, keepdim=True), first, every).argmax(1)[grid]


def fuse(
    pixels: Float[Tensor, "m d"],
    points: Float[Tensor, "m d"],
    text: Float[Tensor, "m d"],
    grid: Int64[Tensor, " m"],
    grids: int,
    temperature: float = 1.0,
) -> Float[Tensor, "n d"]:
    """Semantic-guided fusion features, equations (3) and (4): one for each of ``grids`` grids.

    f_n = sum over the pairs of grid n of a x + b p,  a = exp(D(x, t^1) / lambda) / Z,  b = exp(D(p, t^1) / lambda) / Z

    and Z makes the weights of the grid's pixels and points add up to one. The release of the paper leaves the pixels
    out; they are in here. A grid without a pair is zero.

    Args:
        pixels, points: x and p of each pair.
        text: t^1 of each pair (see :func:`first_sweep_words`).
        grid: row n of each pair's grid.
        grids: N.
        temperature: lambda.
    """
    both, cell = torch.cat([pixels, points]), torch.cat([grid, grid])
    logit = (both * torch.cat([text, text])).sum(1) / temperature
    highest = logit.new_full((grids,), -torch.inf).scatter_reduce(0, cell, logit.detach(), "amax")
    weight = (logit - highest[cell]).exp()
    total = logit.new_zeros(grids).index_add(0, cell, weight)
    return both.new_zeros(grids, both.shape[1]).index_add(0, cell, both * (weight / total[cell])[:, None])


def spatio_temporal_consistency(
    pixels: Float[Tensor, "m d"],
    points: Float[Tensor, "m d"],
    text: Float[Tensor, "m d"],
    grid: Int64[Tensor, " m"],
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """Semantic-guided spatio-temporal consistency, equation (2): the points of a grid to its fusion feature.

    L = sum_n sum_{i in n} (1 - sigmoid(D(p_i, f_n))) / N   over the N grids that hold a pair; zero without any.
    Arguments as for :func:`fuse`; the grids are numbered without gaps.
    """
    if len(grid) == 0:
        return points.sum() * 0.0
    grids = int(grid.max()) + 1
    centre = fuse(pixels, points, text, grid, grids, temperature)
    return (1.0 - torch.sigmoid((points * centre[grid]).sum(1))).sum() / grids


@dataclass(frozen=True)
class SelfTraining:
    """Switchable self-training (S3): after ``after`` epochs the network's own words teach some of the steps.

    probability: of a step being taught by them; 0 is "w/o S3" of Table 1, and 1 is "ST".
    """

    after: int = 10
    probability: float = 0.5

    def applies(self, epoch: int, seed: int, step: int) -> bool:
        """Whether the network's own words teach step ``step`` of the run; the same answer for the same arguments."""
        if epoch < self.after:
            return False
        return bool(np.random.default_rng((seed, step)).random() < self.probability)
