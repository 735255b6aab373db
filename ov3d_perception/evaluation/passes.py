"""How far a network agrees with itself over several passes of the same place, and how honest its probabilities are."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int32, Int64

from ov3d_perception.geometry.voxels import voxel_keys
from ov3d_perception.types import UNLABELLED


class Passes:
    """Labels of points in one fixed frame, over several scans.

    A scan gives each voxel of ``voxel_size`` metres that it hits one label, that of most of its points. Over all
    voxels, the agreement is the share of pairs of scans that give a voxel the same label. What moves lowers it for
    every network alike.
    """

    def __init__(self, classes: int, voxel_size: float = 0.4) -> None:
        self._classes, self._size = classes, voxel_size
        self._seen: dict[str, list[Int64[np.ndarray, "2 k"]]] = {}

    def add(self, xyz: Float[np.ndarray, "n 3"], label: Int32[np.ndarray, " n"], drive: str = "") -> None:
        """One scan's points in the fixed frame of its drive, and their labels; those without one do not count."""
        known = label != UNLABELLED
        key, voxel = np.unique(voxel_keys(xyz[known], self._size), return_inverse=True)
        both, count = np.unique(voxel.reshape(-1) * self._classes + label[known], return_counts=True)
        order = np.lexsort((-count, both // self._classes))
        both = both[order]
        first = np.flatnonzero(np.diff(both // self._classes, prepend=-1))
        self._seen.setdefault(drive, []).append(np.stack([key, both[first] % self._classes]))

    def agreement(self) -> float:
        """In [0, 1]; NaN where no voxel was hit by two scans."""
        pairs = alike = 0.0
        for scans in self._seen.values():
            key, label = np.concatenate(scans, axis=1)
            _, voxel, hits = np.unique(key, return_inverse=True, return_counts=True)
            _, same = np.unique(voxel.reshape(-1) * self._classes + label, return_counts=True)
            pairs += float((hits * (hits - 1)).sum())
            alike += float((same * (same - 1)).sum())
        return alike / pairs if pairs else float("nan")


class Calibration:
    """Expected calibration error of the given labels' probabilities, over ten bins (Guo et al., 2017, equation (3))."""

    def __init__(self, bins: int = 10) -> None:
        self._sums: Float64[np.ndarray, "3 b"] = np.zeros((3, bins))

    def add(self, probability: Float32[np.ndarray, " n"], right: Bool[np.ndarray, " n"]) -> None:
        """Points: the probability of the label each was given, and whether that label is right."""
        bins = self._sums.shape[1]
        where = np.clip((probability * bins).astype(int), 0, bins - 1)
        for row, weights in enumerate((None, probability, right.astype(float))):
            self._sums[row] += np.bincount(where, weights, bins)

    def error(self) -> float:
        """Mean distance of probability and share of right labels, weighted by points; NaN without points."""
        count, probability, right = self._sums
        total = float(count.sum())
        return float(np.abs(probability - right).sum()) / total if total else float("nan")
