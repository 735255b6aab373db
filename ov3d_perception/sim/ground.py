"""Ground meshes: strips along the road, kerbs, markings, islands, uneven earth, side streets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ov3d_perception.sim import classes
from ov3d_perception.sim.layout import Layout, Side
from ov3d_perception.sim.meshes import Mesh, Surface, from_triangles, join
from ov3d_perception.sim.road import Road

_ALONG = 2.5
_EDGE = 90.0
_FAR = 500.0


@dataclass(frozen=True)
class _Strip:
    """A band from t0 at height h0 to t1 at height h1; ``rough``: metres of unevenness."""

    t0: float
    t1: float
    h0: float
    h1: float
    label: int
    surface: Surface
    across: float = 8.0
    rough: float = 0.0


def build(road: Road, layout: Layout, crossings: list[tuple[float, float]], rng: np.random.Generator) -> Mesh:
    """The whole ground of a street; within ``crossings`` (s intervals) side streets run through."""
    bounds = [road.start, *(s for crossing in sorted(crossings) for s in crossing), road.end]
    parts = []
    for number, (a, b) in enumerate(pairwise(bounds)):
        crossing = number % 2 == 1
        for sign in (-1, 1):
            side = layout.side(sign)
            strips = _side_street(layout, side) if crossing else _section(layout, side)
            parts += [
                _sweep(road, replace(s, t0=sign * s.t0, t1=sign * s.t1), a, b, rng, caps=not crossing) for s in strips
            ]
        parts += _crossing_paint(road, layout, a, b) if crossing else _markings(road, layout, a, b)
        if crossing:
            parts += _islands(road, layout, a, b, rng)
    parts.append(_plain(road, layout))
    return join(parts)


def _plain(road: Road, layout: Layout) -> Mesh:
    """Low land all around, which closes the horizon."""
    corners = road.bend(np.array([[s, 0.0, 0.0] for s in (road.start, road.end)]))
    low, high = corners.min(axis=0) - _FAR, corners.max(axis=0) + _FAR
    square = np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]])
    quad = np.column_stack([square, np.full(4, -4.0)])
    return from_triangles(quad[[[0, 1, 2], [0, 2, 3]]], layout.looks.grass).tagged(classes.TERRAIN)


def _section(layout: Layout, side: Side) -> list[_Strip]:
    """From the centreline outwards. The median and the pavement are raised, flat strips lie a little proud."""
    looks, h, m = layout.looks, layout.kerb_height, layout.median
    strips = []
    if m:
        strips.append(_Strip(0, m, h, h, classes.OTHER_FLAT, looks.island))
        strips.append(_Strip(m, m, h, 0, classes.OTHER_FLAT, looks.kerb))
    strips.append(_Strip(m, side.road_edge, 0, 0, classes.DRIVEABLE_SURFACE, looks.asphalt))
    low = 0.0
    if side.flat[1] > side.flat[0]:
        low = 0.04
        strips.append(_Strip(side.flat[0], side.flat[0], 0, low, classes.OTHER_FLAT, looks.kerb))
        strips.append(_Strip(*side.flat, low, low, classes.OTHER_FLAT, looks.flat))
    inner = side.verge[0]
    strips.append(_Strip(inner, inner, low, h, classes.SIDEWALK, looks.kerb))
    strips.append(_Strip(inner, inner + 0.15, h, h, classes.SIDEWALK, looks.kerb))
    if side.verge[1] > side.verge[0]:
        strips.append(_Strip(inner + 0.15, side.verge[1], h, h, classes.TERRAIN, looks.grass, 0.5, 0.05))
    start = max(side.pavement[0], inner + 0.15)
    strips.append(_Strip(start, side.pavement[1], h, h, classes.SIDEWALK, looks.pavement))
    strips.append(_Strip(side.front, side.front + 14, h, h, classes.TERRAIN, looks.grass, 1.2, 0.12))
    strips.append(_Strip(side.front + 14, _EDGE, h, h + 1.0, classes.TERRAIN, looks.grass, 8.0, 0.5))
    return strips


def _side_street(layout: Layout, side: Side) -> list[_Strip]:
    return [_Strip(0, _EDGE, 0, 0, classes.DRIVEABLE_SURFACE, layout.looks.asphalt)]


def _sweep(road: Road, strip: _Strip, a: float, b: float, rng: np.random.Generator, *, caps: bool) -> Mesh:
    """The strip's surface over s in [a, b], with vertical faces at its two ends."""
    s = np.linspace(a, b, max(2, round((b - a) / (_ALONG if strip.rough else 2 * _ALONG)) + 1))
    columns = max(2, int(np.ceil(abs(strip.t1 - strip.t0) / strip.across)) + 1)
    w = np.linspace(0, 1, columns)
    t, h = strip.t0 + (strip.t1 - strip.t0) * w, strip.h0 + (strip.h1 - strip.h0) * w
    grid = np.stack([*np.meshgrid(s, t, indexing="ij"), np.broadcast_to(h, (len(s), columns))], axis=-1)
    if strip.rough:
        inside = np.ones((len(s), columns))
        inside[:, 0] = inside[:, -1] = 0
        grid[..., 2] += strip.rough * inside * rng.uniform(-0.4, 1.0, inside.shape)
    pieces = [_patch(road, grid, strip.label, strip.surface)]
    if caps and abs(strip.t1 - strip.t0) > 0:
        for row in (grid[:1], grid[-1:]):
            pieces.append(_patch(road, np.concatenate([row, row - [0, 0, 0.5]]), strip.label, strip.surface))
    return join(pieces)


def _patch(road: Road, grid: np.ndarray, label: int, surface: Surface) -> Mesh:
    """A grid (i, j, 3) of road coordinates as triangles; texture coordinates are (s, t), or (along, up) if upright."""
    q = np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], axis=2).reshape(-1, 4, 3)
    corners = np.stack([q[:, [0, 1, 2]], q[:, [0, 2, 3]]], axis=1).reshape(-1, 3, 3)
    mesh = from_triangles(road.bend(corners), surface).tagged(label)
    extent = np.ptp(grid.reshape(-1, 3), axis=0)
    pick = [0, 1] if extent[1] > 0 and extent[0] > 0 else [int(extent[1] > extent[0]), 2]
    return replace(mesh, uv=corners[..., pick].astype(np.float32))


def _band(
    road: Road, layout: Layout, s0: float, s1: float, t0: float, t1: float, surface: Surface | None = None
) -> Mesh:
    """A painted rectangle on the asphalt."""
    s = np.linspace(s0, s1, max(2, int((s1 - s0) / 5) + 2))
    grid = np.stack([*np.meshgrid(s, [t0, t1], indexing="ij"), np.full((len(s), 2), 0.006)], axis=-1)
    return _patch(road, grid, classes.DRIVEABLE_SURFACE, surface or layout.looks.marking)


def _markings(road: Road, layout: Layout, a: float, b: float) -> list[Mesh]:
    """Dashed lines between lanes, a centre line without a median, a line to the parked cars, stop lines."""
    parts = []
    for sign in (-1, 1):
        side = layout.side(sign)
        borders = [(x + y) / 2 for x, y in zip(side.lanes[:-1], side.lanes[1:], strict=True)]
        if sign < 0 and not layout.median:
            borders.append(0.0)
        for t in borders:
            parts += [
                _band(road, layout, s, min(s + 3, b), sign * t - 0.07, sign * t + 0.07) for s in np.arange(a, b, 6.0)
            ]
        edge = side.lanes[-1] + layout.lane_width / 2
        parts.append(_band(road, layout, a, b, sign * edge - 0.06, sign * edge + 0.06))
    return parts


def _crossing_paint(road: Road, layout: Layout, a: float, b: float) -> list[Mesh]:
    """Zebra crossings before and after the side street."""
    reach_right, reach_left = layout.right.road_edge, layout.left.road_edge
    stripes = np.arange(-reach_right + 0.4, reach_left - 0.4, 1.0)
    return [
        _band(road, layout, s, s + 2.6, t, t + 0.5)
        for s in (a - 3.2, b + 0.6)
        for t in stripes
        if abs(t) > layout.median
    ]


def _islands(road: Road, layout: Layout, a: float, b: float, rng: np.random.Generator) -> list[Mesh]:
    """A raised traffic island in each mouth of the side street."""
    parts, h = [], layout.kerb_height
    for sign in (-1, 1):
        start = layout.side(sign).front + rng.uniform(-2, 1)
        t = sign * np.array([start, start + rng.uniform(4, 8)])
        middle, half = (a + b) / 2, rng.uniform(0.6, 1.2)
        grid = np.stack([*np.meshgrid([middle - half, middle + half], t, indexing="ij"), np.full((2, 2), h)], axis=-1)
        parts.append(_patch(road, grid, classes.OTHER_FLAT, layout.looks.island))
        rim = grid[[0, 1, 1, 0], [0, 0, 1, 1]]
        for p, q in zip(rim, np.roll(rim, -1, axis=0), strict=True):
            wall = np.stack([np.stack([p, q]), np.stack([p, q]) - [0, 0, h]])
            parts.append(_patch(road, wall, classes.OTHER_FLAT, layout.looks.kerb))
    return parts
