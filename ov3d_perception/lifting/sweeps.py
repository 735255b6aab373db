"""The K sweeps of a CLIP2Scene sample: drawn among those near in time, without the vehicle's own returns."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from ov3d_perception.geometry.upright import upright_points
from ov3d_perception.types import Scan, Sweep

EGO = 1.0  # metres: points of extra sweeps with |x| and |y| (level) below it are the vehicle itself


def draw_sweeps(sweeps: tuple[Sweep, ...], count: int, seconds: float, rng: np.random.Generator) -> tuple[Sweep, ...]:
    """The key sweep ``sweeps[0]`` and ``count`` - 1 of those within ``seconds`` of it; fewer where there are fewer."""
    key, *others = sweeps
    near = [sweep for sweep in others if abs(sweep.scan.stamp - key.scan.stamp) <= seconds * 1e9]
    chosen = sorted(rng.choice(len(near), min(count - 1, len(near)), replace=False)) if near else []
    return (key, *(without_ego(near[i]) for i in chosen))


def without_ego(sweep: Sweep) -> Sweep:
    """The sweep without points within :data:`EGO` of the sensor, along x and along y of the upright cloud."""
    scan = sweep.scan
    keep = (np.abs(upright_points(scan)[:, :2]) >= EGO).any(1)
    columns: dict[str, Any] = {f.name: getattr(scan, f.name) for f in fields(Scan) if f.name != "R_upright"}
    kept = {name: column[keep] for name, column in columns.items() if isinstance(column, np.ndarray)}
    return replace(sweep, scan=replace(scan, **kept))
