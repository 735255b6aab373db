"""A word taught by examples: one unit vector in the encoder's space that competes with words embedded from text.

The direction is that of a balanced logistic regression, as a linear probe of CLIP (Radford et al., 2021, section 3)::

    w = argmin |w|^2 / 2 + C (mean over examples of log(1 + exp(-w x)) + mean over the rest of log(1 + exp(w x)))

x: an example's mean unit feature; the rest: patches of other things, and a small share of the other words themselves.

Image features lie closer to a vector made of image features than to any text (the gap between the modalities, Liang et
al., 2022), so w, beside words, would win nearly everywhere: it is too *loud*. Words have no bias that could lower it,
and unit length is their only length. So w is mixed with a direction q that the images hardly have and the words share::

    t = b w + sqrt(1 - b^2) q        q ~ (S + ridge)^-1 (mean of the other words), less its part along w
    b = loudness * (mean cosine of other things with the word that wins them) / (mean cosine of unseen examples with w)

S: second moments of all patches seen. Unseen: each example is scored by a w that was fitted without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64

from ov3d_perception.errors import TeachingError
from ov3d_perception.language.pictures import Patches

LOUDNESS = 0.75
"""Cosine of a taught word with its thing, in units of a winning word's (chosen on the data of docs/taught_words.md)."""
_C = 100.0
_WORDS_SHARE = 0.2  # of the weight of what is not the thing
_OPTIMISM = 0.9  # an only example's cosine with its own w, to that of an unseen one
_RIDGE = 1e-3  # of the largest second moment
_MOST = 4000  # patches of other things


@dataclass(frozen=True, eq=False)
class Taught:
    """A word's embedding and how it does on its own examples.

    found: for each example, the share of its patches that a word taught without it wins against all other words; of an
    only example, by its own word. mistaken: share of the other things' patches that the word wins. alike: smallest
    cosine between two examples' means, 1 for an only one.
    """

    embedding: Float32[np.ndarray, " d"]
    found: Float64[np.ndarray, " n"]
    mistaken: float
    alike: float


def teach(
    examples: Sequence[Patches],
    others: Float32[np.ndarray, "m d"],
    words: Float32[np.ndarray, "k d"],
    loudness: float = LOUDNESS,
) -> Taught:
    """The embedding of what ``examples`` show and ``others``, with the examples' surroundings, do not.

    words: unit embeddings of the words that it is to compete with. All features are of unit norm.
    Raises TeachingError where there is no example, no other thing, no other word, or no difference.
    """
    if not examples:
        raise TeachingError("There is no example", "Give pictures of the thing")
    if not len(words):
        raise TeachingError("The bank holds no other word that the new one could be told from", "Use a bank of words")
    means = _unit(np.stack([example.inside.mean(axis=0) for example in examples]).astype(np.float64))
    surroundings = [example.outside for example in examples]
    rest = _some(np.concatenate([*surroundings, others]).astype(np.float64), _MOST)
    if not len(rest):
        raise TeachingError(
            "Nothing shows what the thing is not: the examples have no surroundings",
            "Give pictures of other things, --not FILE ..., or boxes or masks in whole camera images",
        )
    text = words.astype(np.float64)
    direction = _direction(means, rest, text)
    unseen = [direction] if len(examples) == 1 else [_without(i, means, rest, text) for i in range(len(examples))]
    cosine = float(np.mean([(e.inside @ w).mean() for e, w in zip(examples, unseen, strict=True)]))
    cosine *= _OPTIMISM if len(examples) == 1 else 1.0
    if cosine <= 0.0:
        raise TeachingError(
            "The examples do not have more in common with each other than with what surrounds them",
            "Check that they show one thing, and that its boxes or masks are right",
        )
    winning = rest @ text.T
    share = float(np.clip(loudness * winning.max(axis=1).mean() / cosine, 0.05, 1.0))
    inside = np.concatenate([example.inside for example in examples]).astype(np.float64)
    seen = np.concatenate([inside, rest])
    quiet = quiet_direction(seen.T @ seen / len(seen), text.mean(axis=0))

    def mixed(w: Float64[np.ndarray, " d"]) -> Float64[np.ndarray, " d"]:
        """w at the right loudness."""
        return share * w + np.sqrt(1.0 - share**2) * _unit(quiet - (quiet @ w) * w)

    word = mixed(direction)
    found = [_won(e.inside, mixed(w), text) for e, w in zip(examples, unseen, strict=True)]
    return Taught(word.astype(np.float32), np.array(found), _won(rest, word, text), float((means @ means.T).min()))


def _direction(
    means: Float64[np.ndarray, "n d"], rest: Float64[np.ndarray, "m d"], words: Float64[np.ndarray, "k d"]
) -> Float64[np.ndarray, " d"]:
    from sklearn.linear_model import LogisticRegression  # half a second, for this alone

    features = np.concatenate([means, rest, words])
    parts = ((len(means), 1.0), (len(rest), 1.0 - _WORDS_SHARE), (len(words), _WORDS_SHARE))
    weight = np.concatenate([np.full(count, share / count) for count, share in parts])
    label = np.arange(len(features)) < len(means)
    fitted = LogisticRegression(C=_C, max_iter=1000).fit(features, label, weight)
    return _unit(fitted.coef_[0].astype(np.float64))


def _without(
    left_out: int,
    means: Float64[np.ndarray, "n d"],
    rest: Float64[np.ndarray, "m d"],
    words: Float64[np.ndarray, "k d"],
) -> Float64[np.ndarray, " d"]:
    return _direction(np.delete(means, left_out, axis=0), rest, words)


def quiet_direction(moments: Float64[np.ndarray, "d d"], word: Float64[np.ndarray, " d"]) -> Float64[np.ndarray, " d"]:
    """The direction of ``word``, as far as features with these second moments hardly have it."""
    sizes, axes = np.linalg.eigh(moments)
    return _unit(axes @ ((axes.T @ word) / (sizes + _RIDGE * sizes[-1])))


def _won(
    features: Float[np.ndarray, "n d"], word: Float64[np.ndarray, " d"], words: Float64[np.ndarray, "k d"]
) -> float:
    return float(np.mean(features @ word > (features @ words.T).max(axis=1)))


def _some(rows: Float64[np.ndarray, "n d"], most: int) -> Float64[np.ndarray, "m d"]:
    """At most so many rows, evenly."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]


def _unit(vectors: Float64[np.ndarray, "*n d"]) -> Float64[np.ndarray, "*n d"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
