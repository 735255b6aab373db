"""Which points of a labelled cloud are obstacles, by their words and by how high they stand above the ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Integer

from ov3d_perception.geometry.ground import height_above_ground
from ov3d_perception.language.words import is_ground, normalise_word, same_word

GROUND = "ground"  # in ``keep`` and ``drop``: all classes of ground, whatever they are called


@dataclass(frozen=True)
class ObstacleRule:
    """keep, drop: classes by words (no ``keep``: all, and points of no class); ``drop`` counts more.

    min_height, max_height: the band above the ground, metres. min_height_of_ground: its lower end for points of a
    ground class. min_probability: points labelled with less are taken for points of no class. max_range: metres in x
    and y; what is farther is left out.
    """

    keep: Sequence[str] = ()
    drop: Sequence[str] = ()
    min_probability: float = 0.0
    min_height: float = 0.1
    min_height_of_ground: float = 0.2
    max_height: float = 2.0
    max_range: float = 50.0


def obstacles(
    rule: ObstacleRule,
    names: Sequence[str],
    xyz: Float32[np.ndarray, "n 3"],
    label: Integer[np.ndarray, " n"],
    probability: Float32[np.ndarray, " n"],
) -> Bool[np.ndarray, " n"]:
    """True for each point that the rule passes. names: of the classes; label: index of one of them, else no class.

    xyz: in a frame with z up and the sensor near the origin. Points that are not finite do not pass.
    """
    keep, drop = named(rule.keep, names), named(rule.drop, names)
    flat = np.array([is_ground(name) for name in names], bool)
    # The row after the last class is for points of none.
    passes = np.append((keep | (not rule.keep)) & ~drop, not rule.keep).astype(bool)
    flat = np.append(flat, False)
    classed = (probability >= rule.min_probability) & (label >= 0) & (label < len(names))
    row = np.where(classed, label, len(names)).astype(np.int64)
    finite = np.isfinite(xyz).all(axis=1)
    may_be_ground = finite & (flat[row] | (not flat.any()))  # words without ground: its shape alone must tell
    height = np.full(len(xyz), np.nan, np.float32)
    height[finite] = height_above_ground(xyz[finite], may_be_ground[finite], rule.max_range)
    least = np.where(flat[row], rule.min_height_of_ground, rule.min_height)
    return np.asarray(passes[row] & (height >= least) & (height <= rule.max_height))


def named(words: Sequence[str], names: Sequence[str]) -> Bool[np.ndarray, " classes"]:
    """True for each class that one of the words names, itself or in a group."""
    return np.array([any(_names(word, name) for word in words) for name in names], bool)


def unknown_words(words: Sequence[str], names: Sequence[str]) -> list[str]:
    """Those that name no class. A group is always known: no class may belong to it."""
    return [w for w in words if normalise_word(w) != GROUND and not any(same_word(w, name) for name in names)]


def _names(word: str, name: str) -> bool:
    return same_word(word, name) or (normalise_word(word) == GROUND and is_ground(name))
