"""Where a scan ends: points on the sides and on the tops of things, which a camera should see as edges, too.

Levinson and Thrun ("Automatic Online Calibration of Cameras and Lasers", RSS 2013) take depth discontinuities along a
beam's ring. Here they are taken in a grid of azimuth and elevation, so that clouds without rings will do: a thing's
nearest point in a cell is on its side if nothing as near follows beside it, and on its top if nothing as near follows
above. The ground is no thing, and an edge needs a neighbour that continues it: leaves and rain have few of these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from scipy.ndimage import minimum_filter

from ov3d_perception.geometry.ground import height_above_ground
from ov3d_perception.types import Scan

COLUMNS = 1800  # of the grid, 0.2 degrees each: what a spinning LiDAR takes at 10 Hz
NEAREST, FARTHEST = 2.0, 80.0  # metres
GROUND = 0.3  # metres; what is lower is the ground
GAP, GAP_SHARE = 0.5, 0.05  # metres, and share of the range, by which what follows must be farther away
BESIDE, ABOVE = np.radians(0.6), np.radians(0.8)  # how far nothing near may follow
SMOOTH, SMOOTH_SHARE = 0.3, 0.02  # metres, share of the range: how near a neighbour continues the edge


@dataclass(frozen=True)
class Silhouettes:
    """Points in the LiDAR's frame, metres. tops stand half a row above the last point that was hit, where on average
    the thing ends."""

    sides: Float64[np.ndarray, "n 3"]
    tops: Float64[np.ndarray, "m 3"]


@dataclass(frozen=True)
class _Grid:
    """Nearest range of the things in each cell (infinite: none), its point, and the rows' elevations, ascending."""

    range: Float32[np.ndarray, "r c"]
    point: Int64[np.ndarray, "r c"]
    elevation: Float64[np.ndarray, " r"]


def silhouettes(scan: Scan) -> Silhouettes:
    """The edges of the things in a scan; empty for a scan of fewer than a hundred points."""
    if len(scan) < 100:
        return Silhouettes(np.zeros((0, 3)), np.zeros((0, 3)))
    grid = _grid(scan)
    things = grid.point >= 0
    limit = np.where(things, grid.range + np.maximum(GAP, GAP_SHARE * grid.range), -1.0)
    sides = [grid.point[_continued(mask, grid.range, axis=0)] for mask in _sides(grid, things, limit)]
    tops = _continued(_tops(grid, things, limit), grid.range, axis=1)
    return Silhouettes(scan.xyz[np.concatenate(sides)].astype(np.float64), _raised(scan, grid, tops))


def _grid(scan: Scan) -> _Grid:
    xyz = scan.xyz.astype(np.float64)
    distance = np.linalg.norm(xyz, axis=1)
    level = scan.xyz if scan.R_upright is None else (xyz @ scan.R_upright.T).astype(np.float32)
    height = height_above_ground(level, np.ones(len(scan), bool), FARTHEST)
    kept = np.flatnonzero((distance > NEAREST) & (distance < FARTHEST) & ~(height < GROUND))
    kept = kept[np.argsort(-distance[kept], kind="stable")]  # the nearest is written last
    rows, elevation = _rows(scan, np.arcsin(xyz[:, 2] / np.maximum(distance, 1e-3)))
    turn = np.arctan2(xyz[:, 1], xyz[:, 0]) / (2 * np.pi) + 0.5
    columns = (turn * COLUMNS).astype(np.int64) % COLUMNS
    nearest = np.full((len(elevation), COLUMNS), np.inf, np.float32)
    point = np.full(nearest.shape, -1, np.int64)
    nearest[rows[kept], columns[kept]] = distance[kept]
    point[rows[kept], columns[kept]] = kept
    return _Grid(nearest, point, elevation)


def _rows(
    scan: Scan, elevation: Float64[np.ndarray, " n"]
) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " r"]]:
    """The row of each point and the elevation of each row: rings where the scan has them, else equal steps, as many as
    give a point a cell."""
    if scan.ring is not None:
        rings, ring = np.unique(scan.ring, return_inverse=True)
        typical = np.array([np.median(elevation[ring == number]) for number in range(len(rings))])
        order = np.argsort(typical)
        return np.argsort(order)[ring.reshape(-1)], typical[order]
    count = int(np.clip(len(scan) // COLUMNS, 16, 128))
    low, high = np.quantile(elevation, [0.002, 0.998])
    step = max((high - low) / count, 1e-6)
    return np.clip((elevation - low) / step, 0, count - 1).astype(np.int64), low + (np.arange(count) + 0.5) * step


def _sides(grid: _Grid, things: Bool[np.ndarray, "r c"], limit: np.ndarray) -> list[Bool[np.ndarray, "r c"]]:
    """Cells beside which nothing as near follows, to either side; in the rows above and below neither."""
    around = minimum_filter(grid.range, size=(3, 1), mode="nearest")
    steps = range(1, int(np.ceil(BESIDE / (2 * np.pi / COLUMNS))) + 1)
    free = [np.all([np.roll(around, way * step, axis=1) > limit for step in steps], axis=0) for way in (-1, 1)]
    return [things & side for side in free]


def _tops(grid: _Grid, things: Bool[np.ndarray, "r c"], limit: np.ndarray) -> Bool[np.ndarray, "r c"]:
    around = minimum_filter(grid.range, size=(1, 3), mode="wrap")
    free = things.copy()
    if len(grid.elevation) < 2:
        return np.zeros_like(things)
    spacing = float(np.median(np.diff(grid.elevation)))
    for step in range(1, max(1, round(ABOVE / spacing)) + 1):
        above = np.full_like(around, np.inf)
        above[:-step] = around[step:]
        free &= above > limit
    free[-1] = False  # the highest beam says nothing of what is above it
    return free


def _continued(mask: Bool[np.ndarray, "r c"], ranges: Float32[np.ndarray, "r c"], axis: int) -> Bool[np.ndarray, "r c"]:
    """Those cells of an edge that go on at nearly the same range, one or two cells along ``axis``, two aside."""
    known = np.where(mask, ranges, np.float32(1e6))
    beside = minimum_filter(known, size=(1, 5) if axis == 0 else (3, 1), mode="wrap" if axis == 0 else "nearest")
    near = np.maximum(SMOOTH, SMOOTH_SHARE * known)
    return mask & np.any([np.abs(np.roll(beside, step, axis) - known) < near for step in (-2, -1, 1, 2)], axis=0)


def _raised(scan: Scan, grid: _Grid, tops: Bool[np.ndarray, "r c"]) -> Float64[np.ndarray, "m 3"]:
    row = np.nonzero(tops)[0]
    if not len(row):
        return np.zeros((0, 3))
    xyz = scan.xyz[grid.point[tops]].astype(np.float64)
    across, distance = np.linalg.norm(xyz[:, :2], axis=1), np.linalg.norm(xyz, axis=1)
    half = np.append(np.diff(grid.elevation), 0.0)[row] / 2
    elevation = np.arctan2(xyz[:, 2], across) + half
    flat = distance * np.cos(elevation) / np.maximum(across, 1e-6)
    return np.column_stack([xyz[:, :2] * flat[:, None], distance * np.sin(elevation)])
