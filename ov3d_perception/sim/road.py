"""The road's centreline, a gentle curve in three dimensions, and the coordinates along it.

(s, t, h): metres along the centreline, metres to its left, metres above it. Right-hand traffic: the robot has t < 0.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

_STEP = 0.5


class Road:
    """A smooth centreline over [start, end] metres, bent and hilly at random."""

    def __init__(self, rng: np.random.Generator, start: float, end: float, *, curvature: float = 0.012) -> None:
        self.start, self.end = start, end
        self._s = np.arange(start - 5, end + 5 + _STEP, _STEP)
        waves = rng.uniform(70, 160, 3)
        phases, weights = rng.uniform(0, 2 * np.pi, 3), rng.uniform(0.2, 1.0, 3)
        weights *= rng.uniform(0.1, 1.0) * curvature / weights.sum()
        bend = sum(
            w * np.sin(2 * np.pi * self._s / length + p) for w, length, p in zip(weights, waves, phases, strict=True)
        )
        heading = np.cumsum(bend) * _STEP
        origin = np.searchsorted(self._s, 0.0)
        self._heading = heading - heading[origin]
        xy = np.cumsum(np.column_stack([np.cos(self._heading), np.sin(self._heading)]), axis=0) * _STEP
        self._xy = xy - xy[origin]
        hill, length, phase = rng.uniform(0, 0.8), rng.uniform(120, 240), rng.uniform(0, 2 * np.pi)
        height = hill * np.sin(2 * np.pi * self._s / length + phase)
        self._z = height - height[origin]
        self._slope = np.gradient(self._z, _STEP)

    def heading(self, s: np.ndarray | float) -> np.ndarray:
        """Heading (radians from +x) at s."""
        return np.interp(s, self._s, self._heading)

    def slope(self, s: np.ndarray | float) -> np.ndarray:
        """Rise per metre at s."""
        return np.interp(s, self._s, self._slope)

    def bend(self, sth: Float64[np.ndarray, "... 3"]) -> Float64[np.ndarray, "... 3"]:
        """World coordinates of road coordinates (s, t, h)."""
        s, t, h = np.moveaxis(np.asarray(sth, float), -1, 0)
        heading = self.heading(s)
        x = np.interp(s, self._s, self._xy[:, 0]) - np.sin(heading) * t
        y = np.interp(s, self._s, self._xy[:, 1]) + np.cos(heading) * t
        return np.stack([x, y, np.interp(s, self._s, self._z) + h], axis=-1)

    def pose(
        self, s: np.ndarray | float, t: np.ndarray | float, h: float = 0.0, yaw: np.ndarray | float = 0.0
    ) -> Float64[np.ndarray, "... 4 4"]:
        """Poses (..., 4, 4) at (s, t, h), x along the road (pitched with it), turned by ``yaw``."""
        s, t, yaw = np.broadcast_arrays(np.asarray(s, float), np.asarray(t, float), np.asarray(yaw, float))
        angle, pitch = self.heading(s) + yaw, np.arctan(self.slope(s)) * np.cos(yaw)
        c, si, cp, sp = np.cos(angle), np.sin(angle), np.cos(pitch), np.sin(pitch)
        T = np.zeros((*s.shape, 4, 4))
        T[..., 0, 0], T[..., 0, 1], T[..., 0, 2] = c * cp, -si, -c * sp
        T[..., 1, 0], T[..., 1, 1], T[..., 1, 2] = si * cp, c, -si * sp
        T[..., 2, 0], T[..., 2, 2] = sp, cp
        T[..., :3, 3] = self.bend(np.stack([s, t, np.full(s.shape, h)], axis=-1))
        T[..., 3, 3] = 1
        return T
