"""Augmentations of a cloud. They move and drop points; what a pixel said of a point stays true of it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Int64

from ov3d_perception.recipes.specs import AugmentSpec


def augment(
    xyz: Float32[np.ndarray, "n 3"],
    intensity: Float32[np.ndarray, " n"],
    spec: AugmentSpec,
    rng: np.random.Generator,
) -> tuple[Float32[np.ndarray, "n 3"], Float32[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Moved points (same order and number), changed intensities in [0, 1], and which points are kept.

    The wedge is chosen before: see :func:`in_wedge`.
    """
    angle = rng.uniform(0, 2 * np.pi) if spec.rotate else 0.0
    signs = rng.choice([-1.0, 1.0], 2) if spec.flip else np.ones(2)
    factor = rng.uniform(1 - spec.scale, 1 + spec.scale)
    c, s = np.cos(angle), np.sin(angle)
    linear = factor * np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag([*signs, 1.0])
    moved = xyz @ linear.T.astype(np.float32) + rng.uniform(0, spec.translate, 3).astype(np.float32)
    if spec.jitter > 0:
        moved += rng.normal(0, spec.jitter, moved.shape).astype(np.float32).clip(-3 * spec.jitter, 3 * spec.jitter)
    gain = np.float32(rng.uniform(1 - spec.intensity, 1 + spec.intensity))
    keep = rng.random(len(xyz)) >= rng.uniform(0, spec.dropout)
    strength = (intensity * gain).clip(0, 1)
    if spec.response > 0:
        limit = np.log1p(spec.response)
        strength **= np.float32(np.exp(rng.uniform(-limit, limit)))
    if spec.blind > 0 and rng.random() < spec.blind:
        strength[:] = 0
    return moved, strength, keep


def in_wedge(
    xyz: Float32[np.ndarray, "n 3"], supervised: Int64[np.ndarray, " m"], share: float, rng: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    """Which points lie in a sector of ``share`` of the circle, centred on a degree that has a supervised point."""
    degrees = np.unique(np.floor(_turns(xyz[supervised]) * 360))
    if len(degrees) == 0:
        return np.ones(len(xyz), bool)
    return in_sector(xyz, (rng.choice(degrees) + rng.random()) / 360 - share / 2, share)


def in_sector(xyz: Float32[np.ndarray, "n 3"], start: float, share: float) -> Bool[np.ndarray, " n"]:
    """Which points lie in a sector of ``share`` of the circle around z that begins at ``start`` turns from x."""
    return (_turns(xyz) - start) % 1 < share


def _turns(xyz: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, " n"]:
    return np.arctan2(xyz[:, 1], xyz[:, 0]) / np.float32(2 * np.pi)


def near(xyz: np.ndarray, point: np.ndarray, size: float) -> Bool[np.ndarray, " n"]:
    """Which points lie in a column of edge ``size`` that holds one of the rows ``point``, or beside such a column."""
    cells = np.floor(xyz[:, :2] / size).astype(np.int64)
    cells -= cells.min(0) - 1
    supervised = np.zeros(cells.max(0) + 2, bool)
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            supervised[cells[point, 0] + dx, cells[point, 1] + dy] = True
    return supervised[cells[:, 0], cells[:, 1]]
