"""Sweeps merged into one cloud about the newest one's sensor, turned upright."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from ov3d_perception.geometry import poses
from ov3d_perception.geometry.upright import upright_points
from ov3d_perception.types import Pose, Scan, Sweep

_NS = 1_000_000_000


@dataclass(frozen=True)
class Merged:
    """Points of several sweeps about the key sweep's sensor, upright; those of the key sweep come first."""

    xyz: Float32[np.ndarray, "n 3"]
    intensity: Float32[np.ndarray, " n"]
    sweeps: int


def merge(sweeps: Sequence[Sweep]) -> Merged:
    """All sweeps in the frame of the first one's sensor, upright, in their order."""
    key, *others = sweeps
    if not others:
        return Merged(upright_points(key.scan), key.scan.intensity, 1)
    T_key_world = poses.invert(key.T_world_lidar)
    moved = [poses.transform(T_key_world @ s.T_world_lidar, s.scan.xyz) for s in others]
    return Merged(
        upright_points(key.scan, np.concatenate([key.scan.xyz, *moved]).astype(np.float32, copy=False)),
        np.concatenate([s.scan.intensity for s in sweeps]),
        len(sweeps),
    )


def recent(sweeps: Sequence[Sweep], count: int, max_age_s: float) -> list[Sweep]:
    """The key sweep ``sweeps[0]`` and up to ``count`` - 1 others taken at most ``max_age_s`` seconds before it."""
    key, *others = sweeps
    young = [s for s in others if key.scan.stamp - s.scan.stamp <= int(max_age_s * _NS)]
    return [key, *young[: count - 1]]


class SweepAccumulator:
    """Keeps up to ``sweeps`` sweeps not older than ``max_age_s`` and merges them by their poses in a fixed frame."""

    def __init__(self, sweeps: int, max_age_s: float = 1.0) -> None:
        self._earlier: deque[Sweep] = deque(maxlen=max(sweeps - 1, 0))  # newest first
        self._sweeps, self._max_age_s = sweeps, max_age_s

    def merge(self, scan: Scan, T_fixed_lidar: Pose | None) -> Merged:
        """The scan with its predecessors, newest first. Without a pose the scan stays alone and is not kept.

        Sweeps from after the scan (a bag that starts again) and those too old are forgotten.
        """
        if T_fixed_lidar is None or self._earlier.maxlen == 0:
            return merge([Sweep(scan, np.eye(4))])
        before = [sweep for sweep in self._earlier if sweep.scan.stamp < scan.stamp]
        together = recent([Sweep(scan, T_fixed_lidar), *before], self._sweeps, self._max_age_s)
        self._earlier = deque(together[: self._earlier.maxlen], maxlen=self._earlier.maxlen)
        return merge(together)
