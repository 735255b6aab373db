"""Construction vehicles: excavators, wheel loaders, rollers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ov3d_perception.sim import classes
from ov3d_perception.sim.catalogue import paint
from ov3d_perception.sim.meshes import Mesh, Surface, box, join, place, prism, tube, wheel


def construction_vehicle(rng: np.random.Generator) -> Mesh:
    """An excavator (half of them), a wheel loader or a roller; yellow or orange, sometimes another make's colour."""
    yellow = paint.pick(rng, paint.srgb(240, 175, 20), paint.srgb(235, 130, 20), paint.srgb(245, 195, 40), jitter=0.2)
    body = Surface(yellow, reflectivity=0.5, gloss=0.25)
    maker = (_excavator, _loader, _roller)[rng.choice(3, p=[0.5, 0.35, 0.15])]
    scale = rng.uniform(0.85, 1.1)
    return join(maker(rng, body)).tagged(classes.CONSTRUCTION_VEHICLE).moved(place(scale=scale))


def _tower(x: float, y: float, z: float, size: tuple[float, float, float], body: Surface) -> list[Mesh]:
    """A driver's cabin: glass with a roof and corner posts."""
    lx, ly, lz = size
    parts = [box((lx, ly, lz), (x, y, z + lz / 2), paint.GLASS), box((lx + 0.1, ly + 0.1, 0.12), (x, y, z + lz), body)]
    parts.append(box((lx + 0.04, ly + 0.04, lz * 0.35), (x, y, z + lz * 0.17), body))
    parts += [box((0.1, 0.1, lz), (x + a * lx / 2, y + b * ly / 2, z + lz / 2), body) for a in (-1, 1) for b in (-1, 1)]
    return parts


def _arm(points: list[tuple[float, float]], thick: float, y: float, surface: Surface) -> list[Mesh]:
    """A boom of box section through points (x, z)."""
    parts = []
    for (xa, za), (xb, zb) in pairwise(points):
        along = np.array([xb - xa, zb - za]) / np.hypot(xb - xa, zb - za)
        nx, nz = np.array([-along[1], along[0]]) * thick / 2
        parts.append(
            prism(
                [(xa + nx, za + nz), (xb + nx, zb + nz), (xb - nx, zb - nz), (xa - nx, za - nz)],
                thick * 0.8,
                surface,
                y=y,
            )
        )
    return parts


def _excavator(rng: np.random.Generator, body: Surface) -> list[Mesh]:
    parts = []
    for side in (-1, 1):
        y = side * 1.05
        parts.append(
            prism(
                [(-1.9, 0.45), (-1.5, 0.95), (1.5, 0.95), (1.9, 0.45), (1.5, 0.0), (-1.5, 0.0)], 0.55, paint.BLACK, y=y
            )
        )
        parts += [wheel(0.33, 0.58, (x, y, 0.42), paint.TYRE, paint.STEEL, 10) for x in (-1.4, -0.5, 0.5, 1.4)]
    upper = [box((1.2, 1.6, 0.35), (0, 0, 0.9), paint.BLACK), box((3.0, 2.5, 0.9), (-0.7, 0, 1.55), body)]
    upper.append(box((1.0, 2.4, 1.0), (-1.8, 0, 1.75), body, taper=(0.8, 0.95)))
    upper += _tower(0.35, 0.75, 1.15, (1.4, 1.0, 1.75), body)
    reach, lift = rng.uniform(0.8, 1.1), rng.uniform(0.8, 1.1)
    elbow, tip = (3.6 * reach, 3.9 * lift), (5.6 * reach, 2.3 * lift)
    upper += _arm([(0.6, 1.6), (2.0 * reach, 3.6 * lift), elbow], 0.5, -0.3, body)
    upper += _arm([(elbow[0] - 0.3, elbow[1] + 0.15), tip], 0.38, -0.3, body)
    upper.append(tube([(0.9, -0.3, 1.7), (2.4 * reach, -0.3, 3.2 * lift)], 0.09, paint.STEEL, 6))
    bx, bz = tip
    upper.append(
        prism(
            [(bx, bz), (bx + 0.5, bz - 0.4), (bx + 0.2, bz - 1.1), (bx - 0.7, bz - 1.0), (bx - 0.4, bz - 0.5)],
            1.1,
            paint.STEEL,
            y=-0.3,
        )
    )
    turn = place(yaw=rng.uniform(-0.3, 0.3))
    return [*parts, join(upper).moved(turn)]


def _loader(rng: np.random.Generator, body: Surface) -> list[Mesh]:
    parts = [wheel(0.75, 0.55, (x, s * 1.05, 0.75), paint.TYRE, body, 14) for x in (-1.5, 1.4) for s in (-1, 1)]
    parts += [box((2.3, 1.6, 1.0), (-1.7, 0, 1.5), body, taper=(0.9, 0.8)), box((1.8, 1.2, 0.6), (0.8, 0, 1.1), body)]
    parts += _tower(-0.2, 0, 1.4, (1.3, 1.3, 1.8), body)
    raise_ = rng.uniform(0.3, 1.4)
    for side in (-0.6, 0.6):
        parts += _arm([(0.6, 1.7), (1.9, 1.5 + raise_ * 0.4), (3.0, 0.5 + raise_)], 0.28, side, body)
    x, z = 3.0, 0.4 + raise_
    bucket = [
        (x, z + 0.8),
        (x + 0.2, z),
        (x + 1.2, z - 0.25),
        (x + 1.25, z - 0.15),
        (x + 0.45, z + 0.15),
        (x + 0.35, z + 0.8),
    ]
    return [*parts, prism(bucket, 2.6, paint.STEEL)]


def _roller(rng: np.random.Generator, body: Surface) -> list[Mesh]:
    parts = [wheel(0.65, 1.7, (x, 0, 0.65), paint.STEEL, paint.BLACK, 16) for x in (-1.4, 1.4)]
    parts += [box((2.2, 1.4, 0.8), (-0.9, 0, 1.35), body, taper=(0.9, 0.9)), box((1.6, 1.3, 0.4), (1.2, 0, 1.35), body)]
    parts += [tube([(x, y, 1.4), (x, y, 2.8)], 0.05, paint.BLACK, 5) for x in (-0.2, 1.0) for y in (-0.6, 0.6)]
    return [*parts, box((1.7, 1.5, 0.1), (0.4, 0, 2.8), body), box((0.5, 0.6, 0.9), (0.2, 0, 1.7), paint.BLACK)]
