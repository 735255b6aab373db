"""Trees, bushes and hedges: leaves are small cards, so that rays pass through a crown as they do through a real one."""

from __future__ import annotations

import numpy as np

from ov3d_perception.sim import classes, textures
from ov3d_perception.sim.catalogue import paint
from ov3d_perception.sim.meshes import Mesh, Surface, box, cards, ellipsoid, join, tube

_GREENS = (paint.srgb(75, 110, 45), paint.srgb(95, 130, 50), paint.srgb(50, 90, 45), paint.srgb(110, 140, 70))
_AXIS = np.array([0.0, 0.0, 1.0])
_UP = 0.3 * _AXIS  # what leaves look to, besides outwards


def _foliage(rng: np.random.Generator, *, conifer: bool = False) -> Surface:
    if conifer:
        colour = paint.pick(rng, paint.srgb(40, 75, 45), paint.srgb(50, 80, 60), jitter=0.25)
    elif rng.uniform() < 0.12:
        colour = paint.pick(rng, paint.srgb(170, 120, 40), paint.srgb(150, 70, 35), paint.srgb(120, 45, 50))
    else:
        colour = paint.pick(rng, *_GREENS, jitter=0.25)
    accent = paint.scaled(colour, *rng.uniform(0.35, 0.7, 3))
    return Surface(colour, accent, textures.LEAVES, 1.0, reflectivity=0.45)


def _bark(rng: np.random.Generator) -> Surface:
    colour = paint.pick(rng, paint.srgb(100, 80, 62), paint.srgb(80, 68, 58), paint.srgb(170, 165, 155))
    return Surface(colour, paint.scaled(colour, 0.5), textures.BARK, 1.0, 0.35)


def _ball(rng: np.random.Generator, centre: np.ndarray, radii: np.ndarray, leaves: int, surface: Surface) -> Mesh:
    """Leaves in the outer part of an ellipsoid around a small solid core."""
    way = rng.normal(size=(leaves, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    at = centre + way * radii * rng.uniform(0.55, 1.05, (leaves, 1))
    leaf = cards(at, rng.uniform(0.14, 0.34, leaves) * radii.mean() ** 0.5, surface, rng, way + _UP)
    core = ellipsoid(radii * 0.62, centre, surface, rough=0.2, rng=rng)
    return join([leaf, core])


def tree(rng: np.random.Generator) -> Mesh:
    """A broad-leaved tree (round, wide or tall), a conifer, or a column-like poplar; 4 to 11 m."""
    kind = rng.choice(["broad", "conifer", "poplar"], p=[0.65, 0.2, 0.15])
    if kind == "conifer":
        return _conifer(rng)
    height = rng.uniform(5.0, 10.0)
    clear = height * rng.uniform(0.25, 0.4) if kind == "broad" else height * 0.15
    girth = rng.uniform(0.12, 0.25)
    lean = rng.normal(0, 0.2, 2)
    fork = (lean[0] * 0.5, lean[1] * 0.5, clear + 0.3)
    bark, leaf = _bark(rng), _foliage(rng)
    parts = [tube([(0, 0, -0.2), fork, (lean[0], lean[1], height * 0.75)], [girth, girth * 0.8, 0.05], bark, 7)]
    if kind == "poplar":
        radii = np.array([rng.uniform(0.8, 1.3)] * 2 + [(height - clear) / 2])
        parts.append(_ball(rng, np.array([lean[0], lean[1], (height + clear) / 2]), radii, 300, leaf))
    else:
        spread = rng.uniform(1.4, 2.6)
        for _ in range(rng.integers(3, 6)):
            centre = np.array([*(rng.normal(0, spread * 0.45, 2) + lean), rng.uniform(clear + 1.0, height - 0.8)])
            radii = spread * rng.uniform(0.55, 0.85) * np.array([1, 1, rng.uniform(0.7, 1.0)])
            parts += [_ball(rng, centre, radii, 130, leaf), tube([fork, centre], [girth * 0.5, 0.03], bark, 5)]
    return join(parts).tagged(classes.VEGETATION)


def _conifer(rng: np.random.Generator) -> Mesh:
    height, width = rng.uniform(5.0, 11.0), rng.uniform(1.2, 2.2)
    leaf = _foliage(rng, conifer=True)
    parts = [tube([(0, 0, -0.2), (0, 0, height * 0.9)], [0.18, 0.05], _bark(rng), 6)]
    tiers = rng.integers(5, 8)
    for tier in range(tiers):
        share = tier / tiers
        z = 0.8 + share * (height - 1.6)
        radius = width * (1 - share) + 0.25
        parts.append(tube([(0, 0, z), (0, 0, z + 1.6 * height / tiers)], [radius * 0.8, 0.05], leaf, 9))
        angle = rng.uniform(0, 2 * np.pi, 26)
        at = np.column_stack([np.cos(angle) * radius, np.sin(angle) * radius, z + rng.uniform(-0.1, 0.4, 26)])
        parts.append(
            cards(at * [rng.uniform(0.8, 1.0), 1, 1], rng.uniform(0.3, 0.6, 26), leaf, rng, at - [0, 0, z - 0.3])
        )
    return join(parts).tagged(classes.VEGETATION)


def bush(rng: np.random.Generator) -> Mesh:
    """A bush, 0.6 to 1.8 m."""
    leaf, size = _foliage(rng), rng.uniform(0.5, 1.0)
    parts = []
    for _ in range(rng.integers(1, 4)):
        centre = np.array([*rng.normal(0, 0.4 * size, 2), size * rng.uniform(0.5, 0.8)])
        parts.append(_ball(rng, centre, size * rng.uniform(0.6, 1.0, 3), 90, leaf))
    return join(parts).tagged(classes.VEGETATION)


def hedge(rng: np.random.Generator, length: float) -> Mesh:
    """A trimmed hedge along x."""
    height, width, leaf = rng.uniform(0.8, 1.7), rng.uniform(0.6, 1.0), _foliage(rng)
    solid = box((length, width, height), (0, 0, height / 2), leaf, taper=(0.98, 0.85))
    n = int(length * 22)
    at = rng.uniform(-0.5, 0.5, (n, 3)) * [length, width, height]
    face = rng.integers(0, 3, n)
    at[face == 0, 2] = height / 2
    at[face == 1, 1] = -width / 2
    at[face == 2, 1] = width / 2
    leaves = cards(at + height / 2 * _AXIS, rng.uniform(0.12, 0.28, n), leaf, rng, at * [0.1, 1, 1] + _UP)
    return join([solid, leaves]).tagged(classes.VEGETATION)
