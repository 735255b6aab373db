"""The last K sweeps in the newest one's frame, turned upright."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from ov3d_perception.geometry import poses
from ov3d_perception.geometry.upright import upright_points
from ov3d_perception.types import Pose, Scan, Sweep

_NS = 1_000_000_000


@dataclass(frozen=True)
class Merged:
    """Points of several sweeps about the newest one's sensor, upright; those of the newest sweep come first."""

    xyz: Float32[np.ndarray, "n 3"]
    intensity: Float32[np.ndarray, " n"]
    sweeps: int


class SweepAccumulator:
    """Keeps up to ``sweeps`` sweeps not older than ``max_age_s`` and merges them by their poses in a fixed frame."""

    def __init__(self, sweeps: int, max_age_s: float = 1.0) -> None:
        self._earlier: deque[Sweep] = deque(maxlen=max(sweeps - 1, 0))
        self._max_age_ns = int(max_age_s * _NS)

    def merge(self, scan: Scan, T_fixed_lidar: Pose | None) -> Merged:
        """The scan with its predecessors. Without a pose the scan stays alone and is not kept.

        Sweeps from after the scan (a bag that starts again) and those too old are forgotten.
        """
        if T_fixed_lidar is None or self._earlier.maxlen == 0:
            return Merged(upright_points(scan), scan.intensity, 1)
        fresh = [s for s in self._earlier if 0 < scan.stamp - s.scan.stamp <= self._max_age_ns]
        T_lidar_fixed = poses.invert(T_fixed_lidar)
        moved = [poses.transform(T_lidar_fixed @ s.T_world_lidar, s.scan.xyz) for s in fresh]
        merged = Merged(
            upright_points(scan, np.concatenate([scan.xyz, *moved]).astype(np.float32, copy=False)),
            np.concatenate([scan.intensity, *(s.scan.intensity for s in fresh)]),
            1 + len(fresh),
        )
        self._earlier = deque([*fresh, Sweep(scan, T_fixed_lidar)], maxlen=self._earlier.maxlen)
        return merged
