"""Houses: blocks of flats with facades of windows, shops, small houses with pitched roofs."""

from __future__ import annotations

import numpy as np

from ov3d_perception.sim import classes, textures
from ov3d_perception.sim.catalogue import paint
from ov3d_perception.sim.meshes import Mesh, Surface, box, join, prism

_WALLS = (
    paint.srgb(205, 190, 165), paint.srgb(180, 110, 85), paint.srgb(225, 220, 210), paint.srgb(150, 150, 150),
    paint.srgb(200, 165, 110), paint.srgb(165, 75, 60), paint.srgb(120, 130, 145), paint.srgb(185, 195, 180),
    paint.srgb(215, 170, 150), paint.srgb(95, 90, 88),
)  # fmt: skip
_ROOFS = (paint.srgb(135, 65, 50), paint.srgb(80, 80, 85), paint.srgb(105, 75, 60), paint.srgb(60, 65, 75))


def building(rng: np.random.Generator, frontage: float, depth: float) -> Mesh:
    """A building with its facade in the plane y = 0, ``frontage`` along x, ``depth`` towards -y."""
    kind = rng.choice(["flats", "house", "tower"], p=[0.5, 0.3, 0.2])
    storeys = {"flats": rng.integers(3, 6), "house": rng.integers(1, 3), "tower": rng.integers(6, 10)}[kind]
    height = 3.0 * storeys + 0.6
    colour = paint.pick(rng, *_WALLS, jitter=0.2)
    frame = paint.pick(rng, paint.srgb(235, 233, 228), paint.srgb(70, 65, 60), colour)
    windows = Surface(colour, frame, textures.WINDOWS, rng.uniform(1.6, 3.4), 0.45)
    middle = (0.0, -depth / 2)
    parts = [box((frontage, depth, height), (*middle, height / 2), windows)]
    plinth = Surface(paint.scaled(colour, 0.6), paint.srgb(120, 115, 110), textures.BRICK, 0.4, 0.35)
    parts.append(box((frontage + 0.1, depth + 0.1, 0.55), (*middle, 0.27), plinth))
    if kind == "house" or rng.uniform() < 0.25:
        roof = Surface(paint.pick(rng, *_ROOFS), paint.srgb(40, 38, 36), textures.ROOF, 0.8, 0.35)
        rise, eave = rng.uniform(1.8, 3.5), 0.5
        gable = [(-depth / 2 - eave, height - 0.1), (depth / 2 + eave, height - 0.1), (0, height + rise)]
        turn = np.array([[0, 1, 0, 0], [1, 0, 0, -depth / 2], [0, 0, 1, 0], [0, 0, 0, 1]], float)
        parts.append(prism(gable, frontage + 2 * eave, roof).moved(turn))
        parts.append(box((0.7, 0.7, 1.6), (frontage * 0.25, -depth * 0.6, height + rise * 0.7), plinth))
    else:
        edge = Surface(paint.scaled(colour, 0.8), reflectivity=0.4)
        parts.append(box((frontage + 0.3, depth + 0.3, 0.35), (*middle, height), edge))
    if kind != "house" and rng.uniform() < 0.5:
        shop = Surface(
            paint.scaled(colour, 0.8), texture=textures.SHOPFRONT, scale=rng.uniform(3.0, 5.0), reflectivity=0.4
        )
        parts.append(box((frontage - 0.2, 0.3, 3.6), (0, 0.05, 1.8), shop))
    else:
        door = Surface(paint.hsv(rng.uniform(), 0.6, 0.4), paint.srgb(20, 20, 20), textures.PLANKS, 0.2, 0.35)
        parts.append(box((1.2, 0.12, 2.3), (rng.uniform(-0.3, 0.3) * frontage, 0.0, 1.15), door))
    if kind == "flats" and rng.uniform() < 0.5:
        parts += _balconies(rng, frontage, int(storeys))
    return join(parts).tagged(classes.MANMADE)


def _balconies(rng: np.random.Generator, frontage: float, storeys: int) -> list[Mesh]:
    slab = Surface(paint.pick(rng, paint.srgb(190, 188, 182), paint.srgb(110, 112, 115)), reflectivity=0.4)
    places = np.arange(-frontage / 2 + 2.0, frontage / 2 - 1.0, rng.uniform(4.0, 6.0))
    return [box((2.4, 1.1, 1.0), (x, 0.5, 3.0 * k + 0.5), slab) for x in places for k in range(1, storeys)]
