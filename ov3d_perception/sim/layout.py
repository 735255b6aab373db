"""The cross-section of a street, drawn at random: lanes, median, parking, flat strips, kerbs, pavements, verges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ov3d_perception.sim import textures
from ov3d_perception.sim.catalogue import paint
from ov3d_perception.sim.meshes import Surface


@dataclass(frozen=True)
class Side:
    """One side of the street, all in metres from the centreline, outwards.

    lanes: centres of the traffic lanes; road_edge: end of the asphalt; parking: centre of the parked row or None;
    flat: extent of the other_flat strip; pavement, verge: extents, verge may be empty; front: where plots begin.
    """

    lanes: tuple[float, ...]
    parking: float | None
    road_edge: float
    flat: tuple[float, float]
    verge: tuple[float, float]
    pavement: tuple[float, float]
    front: float


@dataclass(frozen=True)
class Looks:
    """The ground's surfaces in one world."""

    asphalt: Surface
    marking: Surface
    flat: Surface
    island: Surface
    kerb: Surface
    pavement: Surface
    grass: Surface
    dirt: Surface


@dataclass(frozen=True)
class Layout:
    """A whole street; t < 0 is its right side. ``median``: half-width of the island in the middle, 0 for none."""

    right: Side
    left: Side
    median: float
    lane_width: float
    kerb_height: float
    looks: Looks

    def side(self, sign: int) -> Side:
        """The side for t's sign: -1 right, +1 left."""
        return self.right if sign < 0 else self.left


def draw(rng: np.random.Generator) -> Layout:
    """A random street. The median is there in about half, a flat strip on at least one side."""
    lane_width = rng.uniform(3.1, 3.7)
    median = rng.uniform(0.6, 1.6) if rng.uniform() < 0.5 else 0.0
    lanes = int(rng.choice([1, 2], p=[0.55, 0.45]))
    flats, parks = rng.permutation([True, rng.uniform() < 0.5]), rng.permutation([True, rng.uniform() < 0.6])
    sides = [_side(rng, median, lanes, lane_width, bool(flats[i]), bool(parks[i])) for i in (0, 1)]
    return Layout(sides[0], sides[1], median, lane_width, rng.uniform(0.10, 0.17), _looks(rng))


def _side(rng: np.random.Generator, median: float, lanes: int, width: float, flat: bool, parking: bool) -> Side:
    edge = median + 0.25 * (median > 0) + lanes * width
    centres = tuple(edge - (k + 0.5) * width for k in reversed(range(lanes)))
    parked = None
    if parking:
        parked = edge + 1.45
        edge += 2.8
    else:
        edge += 0.4
    flat_end = edge + (rng.uniform(1.2, 2.4) if flat else 0.0)
    verge_end = flat_end + (rng.uniform(1.2, 2.2) if rng.uniform() < 0.55 else 0.0)
    walk_end = verge_end + rng.uniform(2.0, 3.8)
    return Side(centres, parked, edge, (edge, flat_end), (flat_end, verge_end), (verge_end, walk_end), walk_end)


def _looks(rng: np.random.Generator) -> Looks:
    grey = rng.uniform(0.7, 1.35)
    asphalt = paint.scaled(paint.srgb(88, 88, 92), grey)
    return Looks(
        asphalt=Surface(asphalt, texture=textures.ASPHALT, reflectivity=0.12),
        marking=Surface(paint.srgb(225, 225, 218), texture=textures.PLAIN, reflectivity=0.85),
        flat=_flat(rng),
        island=_flat(rng),
        kerb=Surface(
            paint.pick(rng, paint.srgb(175, 172, 166), paint.srgb(150, 148, 145)),
            texture=textures.PLAIN,
            reflectivity=0.4,
        ),
        pavement=_pavement(rng),
        grass=_grass(rng),
        dirt=Surface(
            paint.pick(rng, paint.srgb(135, 105, 75), paint.srgb(120, 100, 80)),
            paint.srgb(95, 78, 58),
            textures.DIRT,
            1.0,
            0.3,
        ),
    )


def _flat(rng: np.random.Generator) -> Surface:
    kind = rng.choice(["cycle", "cobbles", "hatch", "gravel"], p=[0.35, 0.25, 0.25, 0.15])
    if kind == "cycle":
        colour = paint.pick(rng, paint.srgb(165, 75, 60), paint.srgb(150, 60, 50), paint.srgb(60, 125, 85))
        return Surface(colour, texture=textures.ASPHALT, reflectivity=0.25)
    if kind == "cobbles":
        colour = paint.pick(rng, paint.srgb(115, 105, 100), paint.srgb(135, 100, 85))
        return Surface(colour, paint.srgb(60, 56, 52), textures.COBBLES, rng.uniform(0.14, 0.24), 0.25)
    if kind == "hatch":
        colour = paint.pick(rng, paint.srgb(110, 108, 106), paint.srgb(140, 120, 100))
        return Surface(
            colour, paint.pick(rng, paint.srgb(230, 228, 220), paint.srgb(230, 190, 60)), textures.HATCH, 1.4, 0.35
        )
    return Surface(paint.pick(rng, paint.srgb(150, 138, 125)), paint.srgb(105, 95, 88), textures.DIRT, 1.0, 0.3)


def _pavement(rng: np.random.Generator) -> Surface:
    colour = paint.pick(
        rng, paint.srgb(172, 168, 160), paint.srgb(190, 180, 162), paint.srgb(150, 150, 150), paint.srgb(185, 165, 148)
    )
    joint = paint.scaled(colour, *rng.uniform(0.4, 0.65, 3))
    return Surface(colour, joint, textures.PAVING, rng.uniform(0.35, 0.9), 0.3)


def _grass(rng: np.random.Generator) -> Surface:
    dry = rng.uniform(0, 1)
    green, straw = np.array(paint.srgb(85, 125, 55)), np.array(paint.srgb(150, 140, 80))
    colour = paint.scaled((1.0, 1.0, 1.0), *(green + (straw - green) * dry * 0.6))
    return Surface(colour, paint.scaled(colour, 0.65), textures.GRASS, 1.0, 0.4)
