"""Words fitted to what a site's cameras see: no label and no new word, only each class's words moved a little.

Text says where a class lies among features only roughly: images and words are apart (the gap between the modalities),
and each site has its own light, roads and trees. The features that a class wins say it better. Classes are taken for
normal distributions with one covariance (Wang et al., A Hard-to-Beat Baseline for Training-free CLIP-Based Adaptation,
ICLR 2024, whose unsupervised case is EM), begun with the words' own answers and always held to them::

    p_c(f)   = sum over words w of class c of softmax(s f . t_w)                      s: logit scale
    mu_c     = sum_f p_c(f) f / n_c          n_c = sum_f p_c(f)          S: covariance about the means
    score_c  = f . W_c + b_c                 W_c = S^-1 mu_c             b_c = -mu_c . W_c / 2
    t_w'     = t_w + (strength / s) (W_c + b_c u)                        u: f . u is about 1 for every f

and again, p with the words t_w', the result added to the first t_w. The covariance is that of the features' strongest
directions, where classes are told apart; a class that wins hardly a feature stays with the mean of all.

Every place of this project takes words as unit vectors and knows no bias. Features have no part along some direction q
that words share, so the words get as much of it as makes their lengths equal. What wins is as loud as before on the
average: words of the bank that belong to no class compete as they did.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64, Int

from ov3d_perception.errors import TeachingError
from ov3d_perception.language.teach import quiet_direction

STRENGTH = 0.6
ROUNDS = 4
_DIMENSIONS = 64
_SHRINKAGE = 0.1  # of the covariance towards its mean diagonal
_PRIOR = 10.0  # features' worth of the mean of all in each class's mean
_RIDGE = 1e-4
_SHARE = 0.98  # of a word's length that may lie outside q
_LEAST = 1000


@dataclass(frozen=True, eq=False)
class Fitted:
    """embeddings: of the words, unit norm. before, after: share of the features that each class wins.

    strength: that was used; less than asked for where words would have become longer than one.
    """

    embeddings: Float32[np.ndarray, "p d"]
    before: Float64[np.ndarray, " c"]
    after: Float64[np.ndarray, " c"]
    strength: float


def fit_words(
    features: Float[np.ndarray, "n d"],
    words: Float[np.ndarray, "p d"],
    word_class: Int[np.ndarray, " p"],
    logit_scale: float,
    strength: float = STRENGTH,
    rounds: int = ROUNDS,
) -> Fitted:
    """The words of some classes, fitted to unlabelled unit features of a site.

    Raises TeachingError where there are too few features, or one class only.
    """
    if len(features) < _LEAST or word_class.max(initial=0) == 0:
        raise TeachingError(
            f"{len(features)} features and {int(word_class.max(initial=-1)) + 1} classes do not tell where classes lie",
            f"Give at least {_LEAST} points in view and two classes",
        )
    f, text = features.astype(np.float64), words.astype(np.float64)
    members = np.eye(int(word_class.max()) + 1)[word_class]
    moments = f.T @ f / len(f)
    axes = np.linalg.eigh(moments)[1][:, : -_DIMENSIONS - 1 : -1]  # the strongest
    u = np.linalg.solve(moments + _RIDGE * np.eye(len(moments)), f.mean(axis=0))
    loud = _winning(f, text)
    moved, known = text, f @ axes
    for _ in range(rounds):
        weights, bias = _normal_classes(known, _probabilities(f, moved, members, logit_scale))
        change = weights @ axes.T + bias[:, None] * u
        moved = text + strength / logit_scale * change[word_class]
        moved += (loud - _winning(f, moved)) * u
    q = quiet_direction(moments, text.mean(axis=0))
    used = strength
    while np.linalg.norm(rest := moved - np.outer(moved @ q, q), axis=1).max() > _SHARE:
        used, moved = used / 2, (moved + text) / 2
        if used < 1e-3 * strength:
            raise TeachingError("The words have no direction in common that the features lack", "Use them as they are")
    unit = rest + np.outer(np.sqrt(1.0 - (rest**2).sum(axis=1)), q)
    before, after = (_shares(f, vectors, members, logit_scale) for vectors in (text, unit))
    return Fitted(unit.astype(np.float32), before, after, used)


def _probabilities(
    f: Float64[np.ndarray, "n d"], words: Float64[np.ndarray, "p d"], members: Float64[np.ndarray, "p c"], scale: float
) -> Float64[np.ndarray, "n c"]:
    logits = scale * (f @ words.T)
    likelihood = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (likelihood @ members) / likelihood.sum(axis=1, keepdims=True)


def _normal_classes(
    f: Float64[np.ndarray, "n k"], p: Float64[np.ndarray, "n c"]
) -> tuple[Float64[np.ndarray, "c k"], Float64[np.ndarray, " c"]]:
    """W and b of each class."""
    count, mean = p.sum(axis=0), f.mean(axis=0)
    mu = (p.T @ f + _PRIOR * mean) / (count + _PRIOR)[:, None]
    covariance = (f.T @ f - mu.T @ (mu * count[:, None])) / len(f)
    covariance += _SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    weights = np.linalg.solve(covariance, mu.T).T
    bias = -0.5 * (mu * weights).sum(axis=1)
    return weights - count @ weights / len(f), bias - count @ bias / len(f)  # what all have in common decides nothing


def _winning(f: Float64[np.ndarray, "n d"], words: Float64[np.ndarray, "p d"]) -> float:
    """Mean cosine of the features with the word that wins them."""
    return float((f @ words.T).max(axis=1).mean())


def _shares(
    f: Float64[np.ndarray, "n d"], words: Float64[np.ndarray, "p d"], members: Float64[np.ndarray, "p c"], scale: float
) -> Float64[np.ndarray, " c"]:
    won = _probabilities(f, words, members, scale).argmax(axis=1)
    return np.bincount(won, minlength=members.shape[1]) / len(f)
