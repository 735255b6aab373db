"""A spinning LiDAR: each column fires at its own time, from where the robot is at that time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int32

from ov3d_perception.sim.meshes import REFLECTIVITY
from ov3d_perception.sim.rays import Hits, RayScene
from ov3d_perception.types import Scan

PosesAt = Callable[[Float64[np.ndarray, " n"]], Float64[np.ndarray, "n 4 4"]]
_START = np.radians(140.0)  # azimuth of the first column: between two cameras, so that no image straddles the seam


@dataclass(frozen=True)
class LidarModel:
    """The device, by default like the 32-beam one of nuScenes at 10 Hz. Angles in degrees, lengths in metres.

    middle: half of the beams lie evenly below this elevation and half above it; None: all of them lie evenly.
    noise: standard deviation of the range; dropout: share of returns lost at any distance; slices: into how many
    moments a revolution is divided, for movers: they stand still in between, for LiDAR and cameras alike. response:
    the reported intensity is the echo's strength to this power; devices differ in it.
    """

    beams: int = 32
    lowest: float = -30.67
    highest: float = 10.67
    columns: int = 1084
    min_range: float = 1.0
    max_range: float = 75.0
    noise: float = 0.02
    dropout: float = 0.01
    slices: int = 8
    response: float = 1.0
    middle: float | None = None

    def elevations(self) -> Float64[np.ndarray, " b"]:
        """Of the beams (radians), ascending."""
        if self.middle is None:
            return np.radians(np.linspace(self.lowest, self.highest, self.beams))
        below = self.beams // 2
        low = np.linspace(self.lowest, self.middle, below, endpoint=False)
        return np.radians(np.r_[low, np.linspace(self.middle, self.highest, self.beams - below)])

    def moments(self, start: float, period: float) -> Float64[np.ndarray, " s"]:
        """The middle (s) of each slice of the revolution from ``start`` over ``period``."""
        return start + period * (np.arange(self.slices) + 0.5) / self.slices

    def phase(self, azimuth: float) -> float:
        """The share of a revolution after which the beam points to ``azimuth`` (radians)."""
        return float((_START - azimuth) / (2 * np.pi) % 1.0)


@dataclass(frozen=True)
class LidarReturn:
    """A scan as the device gives it (each point in the sensor frame of its own firing), with the truth per point."""

    scan: Scan
    labels: Int32[np.ndarray, " n"]
    instances: Int32[np.ndarray, " n"]


_Returned = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def sweep(
    model: LidarModel,
    scenes: Sequence[RayScene],
    lidar_at: PosesAt,
    start: float,
    period: float,
    rng: np.random.Generator,
) -> LidarReturn:
    """One revolution from ``start`` (s) over ``period`` (s), clockwise from above.

    scenes: the world in each of the model's slices. ``lidar_at``: T_world_lidar at times.

    Points are ordered by firing time, within a column by ring (0 is the lowest beam).
    """
    column = np.arange(model.columns)
    azimuth = _START - 2 * np.pi * column / model.columns
    times = start + period * column / model.columns
    elevation = model.elevations()
    local = np.stack(
        [np.outer(np.cos(azimuth), np.cos(elevation)), np.outer(np.sin(azimuth), np.cos(elevation)),
         np.broadcast_to(np.sin(elevation), (model.columns, model.beams))], axis=-1,
    )  # fmt: skip
    poses = lidar_at(times)
    pieces = []
    for scene, part in zip(scenes, np.array_split(column, model.slices), strict=True):
        directions = np.einsum("cij,cbj->cbi", poses[part, :3, :3], local[part]).reshape(-1, 3)
        origins = np.repeat(poses[part, :3, 3], model.beams, axis=0)
        hits = scene.cast(origins, directions)
        pieces.append((_returns(model, hits, directions, rng), part))
    return _assemble(model, pieces, local, times - start, start)


def _returns(model: LidarModel, hits: Hits, directions: np.ndarray, rng: np.random.Generator) -> _Returned:
    """Rays that return (row), their measured range, intensity, label, instance."""
    rows = hits.rows
    distance = hits.distance[rows]
    facing = np.abs((hits.flat_normal * directions[rows]).sum(axis=1))
    reflectivity = hits.surface[:, REFLECTIVITY]
    echo = reflectivity * (0.25 + 0.75 * facing)
    strength = echo * np.exp(-distance / 60)
    lost = model.dropout + 0.9 * np.exp(-strength / 0.008) + 0.25 * np.clip(distance / model.max_range - 0.6, 0, 1)
    keep = (rng.uniform(size=len(rows)) > lost) & (distance > model.min_range) & (distance < model.max_range)
    measured = distance + rng.normal(0, model.noise, len(rows)) if model.noise else distance
    intensity = np.clip(echo * rng.normal(1, 0.06, len(rows)) * np.exp(-distance / 120), 0, 1)
    if model.response != 1:
        intensity = intensity**model.response
    kept = rows[keep]
    return kept, measured[keep], intensity[keep], hits.label[kept], hits.instance[kept]


def _assemble(
    model: LidarModel, pieces: list[tuple[_Returned, np.ndarray]], local: np.ndarray, times: np.ndarray, start: float
) -> LidarReturn:
    xyz, intensity, time, ring, labels, instances = [], [], [], [], [], []
    for (rows, measured, strength, label, instance), part in pieces:
        columns, beams = part[rows // model.beams], rows % model.beams
        xyz.append(local[columns, beams] * measured[:, None])
        intensity.append(strength)
        time.append(times[columns])
        ring.append(beams)
        labels.append(label)
        instances.append(instance)

    def join(arrays: list[np.ndarray], kind: type) -> np.ndarray:
        return np.concatenate(arrays).astype(kind)

    scan = Scan(
        join(xyz, np.float32), join(intensity, np.float32), stamp=round(start * 1e9), frame_id="lidar",
        time=join(time, np.float32), ring=join(ring, np.int32),
    )  # fmt: skip
    return LidarReturn(scan, join(labels, np.int32), join(instances, np.int32))
