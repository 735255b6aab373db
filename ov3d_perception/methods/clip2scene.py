"""CLIP2Scene (Chen et al., CVPR 2023): CLIP's words and pixels teach a 3D network, without labels.

Notation, as in the paper: x_i is the feature of a pixel, p_i of the point that it sees, t_i the embedding of the words
that MaskCLIP gives the pixel, D the scalar product. x, p and t are of unit norm here; the paper does not say, but
equation (1) has no least value otherwise. p of equation (1) and p of equations (2)-(4) come from two linear heads.

A word and a class are two things here, since a class may have several words: two words of one class never repel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor


def pixel_words(
    pixels: Float[Tensor, "m d"], text: Float[Tensor, "w d"], allowed: Bool[Tensor, "m w"] | None = None
) -> Int64[Tensor, " m"]:
    """The word t_i of each pixel: the one with the highest cosine (MaskCLIP), among those ``allowed`` if given."""
    likeness = pixels @ text.T
    if allowed is not None:
        likeness = likeness.masked_fill(~allowed, -torch.inf)
    return likeness.argmax(1)


def prompt_denoising(
    dense: Float[Tensor, "d gh gw"], text: Float[Tensor, "w d"], logit_scale: float, threshold: float
) -> Bool[Tensor, " w"]:
    """Words that an image may hold: those whose probability reaches ``threshold`` somewhere in it (MaskCLIP, 3.3).

    All words where none does, so that every pixel has one.
    """
    surest = F.softmax(logit_scale * torch.einsum("dij,wd->ijw", dense, text), dim=-1).amax((0, 1))
    there = surest >= threshold
    return there if bool(there.any()) else torch.ones_like(there)


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
    likeness = points @ text[present].T / tau
    attracted = likeness.gather(1, torch.searchsorted(present, word)[:, None])[:, 0]
    foreign = likeness.masked_fill(own_class[:, None] == column_class[None, :], -torch.inf)
    repelled = foreign.logsumexp(0) + count.to(likeness.dtype).log()  # a word counts once for each point i that has it
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
    """What the paper's release computes in the place of equation (1): points among words, each point for itself.

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
    """The word t^1 of each pair's grid: what most of the grid's pairs of the first sweep say.

    A grid without a point of the first sweep takes what most of its pairs say; of equals, the lower number.
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
    """Switchable self-training (S3): after ``after`` epochs the network's own words teach it, now and then.

    probability: of a step being taught by them; 0 is "w/o S3" of Table 1, and 1 is "ST".
    """

    after: int = 10
    probability: float = 0.5

    def own_turn(self, epoch: int, seed: int, step: int) -> bool:
        """Whether step ``step`` of the run is taught by the network's own words; the same answer for the same step."""
        if epoch < self.after:
            return False
        return bool(np.random.default_rng((seed, step)).random() < self.probability)
