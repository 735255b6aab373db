"""Street furniture: cones, barriers, poles, lights, signs, fences, bollards, walls."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ov3d_perception.sim import classes, textures
from ov3d_perception.sim.catalogue import paint
from ov3d_perception.sim.meshes import Mesh, Surface, box, ellipsoid, join, prism, tube

_ORANGE, _WHITE, _RED = paint.srgb(240, 90, 15), paint.srgb(240, 240, 235), paint.srgb(205, 25, 20)


def traffic_cone(rng: np.random.Generator) -> Mesh:
    """A cone with reflective bands on a foot, or a striped delineator post."""
    orange = Surface(paint.pick(rng, _ORANGE, paint.srgb(225, 60, 20)), reflectivity=0.6)
    white = Surface(_WHITE, reflectivity=0.95)
    tall = rng.uniform(0.5, 1.0)
    if rng.uniform() < 0.2:
        bands = [tube([(0, 0, a * tall), (0, 0, (a + 0.25) * tall)], 0.06, white if i % 2 else orange, 9)
                 for i, a in enumerate(np.arange(0, 1, 0.25))]  # fmt: skip
        return join([*bands, tube([(0, 0, 0), (0, 0, 0.06)], 0.2, paint.BLACK, 9)]).tagged(classes.TRAFFIC_CONE)
    cuts = np.array([0.0, 0.35, 0.55, 0.70, 0.85, 1.0])
    radii = 0.19 * tall**0.5 * (1 - cuts) + 0.03
    parts = [
        tube([(0, 0, 0.04 + a * tall), (0, 0, 0.04 + b * tall)], radii[i : i + 2], (orange, white)[i % 2], 10)
        for i, (a, b) in enumerate(pairwise(cuts))
    ]
    foot = 0.42 * tall**0.5
    parts.append(box((foot, foot, 0.05), (0, 0, 0.025), paint.BLACK if rng.uniform() < 0.5 else orange))
    return join(parts).tagged(classes.TRAFFIC_CONE)


def barrier(rng: np.random.Generator) -> Mesh:
    """One element along x: a concrete or plastic jersey barrier, a striped board on feet, or a mesh fence."""
    kind = rng.choice(["concrete", "plastic", "board", "fence"], p=[0.35, 0.25, 0.25, 0.15])
    if kind in ("concrete", "plastic"):
        length = rng.uniform(2.0, 3.0) if kind == "concrete" else rng.uniform(1.2, 2.0)
        section = np.array(
            [(-0.3, 0), (-0.3, 0.12), (-0.14, 0.33), (-0.09, 0.85), (0.09, 0.85), (0.14, 0.33), (0.3, 0.12), (0.3, 0)]
        )
        if kind == "concrete":
            surface = Surface(
                paint.pick(rng, paint.srgb(175, 172, 165), paint.srgb(150, 148, 142)),
                texture=textures.PLASTER,
                reflectivity=0.4,
            )
        else:
            surface = Surface(paint.pick(rng, _RED, _WHITE, _ORANGE), reflectivity=0.7, gloss=0.2)
        body = _turned(prism(section, length, surface))
        marks = [
            box((length * 0.9, 0.012, 0.14), (0, s * 0.112, 0.68), paint.stripes(_RED, _WHITE, 0.4)) for s in (-1, 1)
        ]
        parts = [body, *(marks if rng.uniform() < 0.6 else [])]
    elif kind == "board":
        length = rng.uniform(1.6, 2.4)
        board = paint.stripes(_RED if rng.uniform() < 0.7 else _ORANGE, _WHITE, rng.uniform(0.3, 0.6), 0.9)
        parts = [box((length, 0.05, 0.25), (0, 0, z), board) for z in (0.45, 0.9)]
        parts += [box((0.06, 0.06, 1.05), (s * length * 0.45, 0, 0.52), paint.STEEL) for s in (-1, 1)]
        parts += [box((0.12, 0.7, 0.08), (s * length * 0.45, 0, 0.04), paint.BLACK) for s in (-1, 1)]
    else:
        length, post = (
            2.4,
            Surface(paint.pick(rng, paint.srgb(230, 180, 30), _RED, paint.srgb(170, 172, 175)), reflectivity=0.6),
        )
        parts = [tube([(-1.2, 0, z), (1.2, 0, z)], 0.03, post, 5) for z in (0.2, 1.1)]
        parts += [tube([(x, 0, 0.2), (x, 0, 1.1)], 0.015, post, 4) for x in np.linspace(-1.2, 1.2, 17)]
        parts += [box((0.06, 0.6, 0.05), (s * 1.0, 0, 0.03), post) for s in (-1, 1)]
        parts.append(box((0.9, 0.03, 0.2), (0, 0, 0.95), paint.stripes(_RED, _WHITE, 0.3, 0.9)))
    return join(parts).tagged(classes.BARRIER)


def _turned(mesh: Mesh) -> Mesh:
    T = np.array([[0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], float)
    return mesh.moved(T)


def street_light(rng: np.random.Generator) -> Mesh:
    """A lamp post; its arm reaches to +y."""
    tall, reach = rng.uniform(5.0, 8.5), rng.uniform(0.4, 2.0)
    steel = Surface(
        paint.pick(rng, paint.srgb(130, 134, 138), paint.srgb(50, 55, 52), paint.srgb(80, 95, 85)), reflectivity=0.4
    )
    pole = tube(
        [(0, 0, 0), (0, 0, 1.0), (0, 0, tall - 0.4), (0, reach * 0.5, tall), (0, reach, tall)],
        [0.11, 0.09, 0.06, 0.05, 0.04],
        steel,
        7,
    )
    return join([pole, box((0.25, 0.7, 0.12), (0, reach + 0.2, tall), steel)]).tagged(classes.MANMADE)


def traffic_light(rng: np.random.Generator) -> Mesh:
    """A signal on a pole, facing -x."""
    tall = rng.uniform(2.8, 3.4)
    parts = [
        tube([(0, 0, 0), (0, 0, tall)], 0.07, paint.STEEL, 7),
        box((0.25, 0.34, 0.95), (0, 0, tall - 0.35), paint.BLACK),
    ]
    lit = rng.integers(3)
    for k, colour in enumerate((paint.srgb(255, 50, 40), paint.srgb(255, 190, 40), paint.srgb(60, 240, 110))):
        shade = colour if k == lit else paint.scaled(colour, 0.15)
        parts.append(
            ellipsoid((0.04, 0.11, 0.11), (-0.14, 0, tall - 0.06 - 0.29 * k), Surface(shade, reflectivity=0.4))
        )
    return join(parts).tagged(classes.MANMADE)


def sign(rng: np.random.Generator) -> Mesh:
    """A traffic sign (round, square or triangular), facing -x."""
    tall = rng.uniform(2.1, 2.8)
    a, b = [(_RED, _WHITE), (paint.srgb(25, 70, 165), _WHITE), (paint.srgb(240, 200, 30), paint.srgb(20, 20, 20))][
        rng.integers(3)
    ]
    face, inner = Surface(a, reflectivity=1.0), Surface(b, reflectivity=1.0)
    parts = [tube([(0, 0, 0), (0, 0, tall)], 0.035, paint.STEEL, 6)]
    sides = int(rng.choice([16, 4, 3]))
    for surface, x, radius in ((face, -0.05, 0.38), (inner, -0.06, 0.24)):
        parts.append(tube([(x, 0, tall - 0.2), (x - 0.015, 0, tall - 0.2)], radius, surface, sides))
    return join(parts).tagged(classes.MANMADE)


def bollard(rng: np.random.Generator) -> Mesh:
    """A low post."""
    tall = rng.uniform(0.7, 1.1)
    dark = Surface(
        paint.pick(rng, paint.srgb(60, 62, 65), paint.srgb(110, 110, 105), paint.srgb(70, 50, 40)), reflectivity=0.3
    )
    band = Surface(_WHITE, reflectivity=0.9)
    return join(
        [tube([(0, 0, 0), (0, 0, tall)], 0.07, dark, 8), tube([(0, 0, tall - 0.2), (0, 0, tall - 0.1)], 0.074, band, 8)]
    ).tagged(classes.MANMADE)


def bin_(rng: np.random.Generator) -> Mesh:
    """A litter bin or a row of wheeled bins."""
    colour = Surface(
        paint.pick(rng, paint.srgb(35, 70, 45), paint.srgb(50, 55, 60), paint.srgb(40, 60, 110)), reflectivity=0.25
    )
    row = [box((0.55, 0.6, 1.0), (0.65 * k, 0, 0.55), colour, taper=(1.1, 1.1)) for k in range(rng.integers(1, 4))]
    lids = [box((0.62, 0.68, 0.08), (0.65 * k, 0, 1.08), paint.BLACK) for k in range(len(row))]
    return join([*row, *lids]).tagged(classes.MANMADE)


def bench(rng: np.random.Generator) -> Mesh:
    """A bench, looking to +y."""
    wood = Surface(
        paint.pick(rng, paint.srgb(130, 90, 55), paint.srgb(95, 70, 50)),
        paint.srgb(40, 30, 22),
        textures.PLANKS,
        0.12,
        0.4,
    )
    parts = [box((1.7, 0.45, 0.06), (0, 0, 0.45), wood), box((1.7, 0.06, 0.4), (0, -0.22, 0.72), wood)]
    parts += [box((0.08, 0.45, 0.45), (s * 0.7, 0, 0.22), paint.BLACK) for s in (-1, 1)]
    return join(parts).tagged(classes.MANMADE)


def bus_shelter(rng: np.random.Generator) -> Mesh:
    """A bus shelter, open to +y."""
    frame = Surface(paint.pick(rng, paint.srgb(60, 64, 70), paint.srgb(140, 145, 150)), reflectivity=0.35)
    poster = Surface(paint.hsv(rng.uniform(), 0.7, 0.8), paint.hsv(rng.uniform(), 0.6, 0.6), textures.CHEQUER, 0.5, 0.5)
    parts = [box((3.6, 1.5, 0.1), (0, 0, 2.45), frame), box((3.4, 0.04, 1.7), (0, -0.65, 1.3), paint.GLASS)]
    parts += [box((0.08, 0.08, 2.4), (x, y, 1.2), frame) for x in (-1.7, 1.7) for y in (-0.65, 0.6)]
    return join(
        [*parts, box((0.06, 1.1, 1.7), (1.7, 0, 1.2), poster), box((2.4, 0.35, 0.06), (0, -0.4, 0.5), frame)]
    ).tagged(classes.MANMADE)


def fence(rng: np.random.Generator, length: float) -> Mesh:
    """A garden fence or railing along x: pickets, rails or a solid wooden wall."""
    tall, kind = rng.uniform(0.9, 1.7), rng.choice(["solid", "pickets", "railing"])
    wood = paint.pick(rng, paint.srgb(125, 90, 60), paint.srgb(165, 150, 130), paint.srgb(225, 222, 212))
    surface = Surface(wood, paint.scaled(wood, 0.3), textures.PLANKS, 0.14, 0.4)
    if kind == "solid":
        return box((length, 0.06, tall), (0, 0, tall / 2), surface).tagged(classes.MANMADE)
    steel = (
        Surface(paint.pick(rng, paint.srgb(45, 48, 50), paint.srgb(50, 80, 60)), reflectivity=0.3)
        if kind == "railing"
        else surface
    )
    parts = [box((length, 0.04, 0.08), (0, 0, z), steel) for z in (0.25, tall - 0.1)]
    wide = 0.03 if kind == "railing" else 0.09
    parts += [box((wide, 0.03, tall - 0.05), (x, 0, tall / 2), steel) for x in np.arange(-length / 2, length / 2, 0.2)]
    return join(parts).tagged(classes.MANMADE)


def wall(rng: np.random.Generator, length: float) -> Mesh:
    """A brick or plastered wall along x."""
    tall = rng.uniform(0.8, 2.2)
    colour = paint.pick(rng, paint.srgb(150, 85, 65), paint.srgb(190, 180, 165), paint.srgb(130, 128, 122))
    surface = Surface(
        colour, paint.srgb(170, 165, 155), textures.BRICK if rng.uniform() < 0.6 else textures.PLASTER, 0.25, 0.4
    )
    cap = Surface(paint.srgb(160, 158, 150), reflectivity=0.4)
    return join(
        [box((length, 0.25, tall), (0, 0, tall / 2), surface), box((length, 0.35, 0.08), (0, 0, tall), cap)]
    ).tagged(classes.MANMADE)
