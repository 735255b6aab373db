"""A furnished room without a ceiling, and a camera that is carried through it: what RGB-D data sets show.

The classes of its faces are NYU40's ids, as in ScanNet's label files.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ov3d_perception.sim import textures
from ov3d_perception.sim.catalogue import paint
from ov3d_perception.sim.meshes import Mesh, Surface, box, join, place, tube
from ov3d_perception.sim.rays import Layer, RayScene
from ov3d_perception.sim.still_life import StillLife, looking
from ov3d_perception.sim.world import Light
from ov3d_perception.types import Camera, Poses

WALL, FLOOR, CABINET, BED, CHAIR, SOFA, TABLE, DOOR, WINDOW, BOOKSHELF, PICTURE = range(1, 12)
"""NYU40's ids of what stands in a room."""
_NAMES = (
    "", "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture"
)  # fmt: skip
_HEIGHT, _EYE = 2.6, 1.5  # metres
_WOODS = (paint.srgb(120, 78, 45), paint.srgb(165, 120, 75), paint.srgb(85, 55, 35))
_CLOTHS = (paint.srgb(70, 90, 130), paint.srgb(140, 60, 55), paint.srgb(90, 120, 90), paint.srgb(150, 140, 125))


def furnished_room(seed: int) -> StillLife:
    """A room of 4 to 6 m a side: furniture along its walls, a table with chairs in the middle, pictures, a door."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 29]))
    width, depth = rng.uniform(4.0, 6.0, 2)
    meshes = [_shell(rng, width, depth), _table(rng)]
    for turn in rng.permutation(4)[: rng.integers(2, 5)]:
        angle = turn * np.pi / 2
        meshes.append(_chair(rng).moved(place(0.95 * np.cos(angle), 0.95 * np.sin(angle), 0, angle)))
    pieces = rng.permutation(len(_ALONG_WALLS))
    for wall, piece in enumerate(pieces[:4]):
        out = (width, depth)[wall % 2] / 2
        turned = place(0, 0, 0, wall * np.pi / 2)
        aside = rng.uniform(-0.4, 0.4)
        meshes.append(_ALONG_WALLS[piece](rng).moved(turned @ place(out, aside, 0)))
        meshes.append(_on_wall(rng, wall).moved(turned @ place(out - 0.02, 0, 0)))
    mesh = join(meshes)
    light = Light(
        np.array([0.25, 0.2, 0.95], np.float32) / np.float32(np.linalg.norm([0.25, 0.2, 0.95])),
        np.array([0.9, 0.87, 0.8], np.float32),
        np.array([0.75, 0.77, 0.8], np.float32),
        np.array([0.7, 0.7, 0.7], np.float32),
        haze=0.0,
        clouds=0.3,
    )
    labels = tuple(int(label) for label in np.unique(mesh.label))
    return StillLife(RayScene(Layer(mesh)), light, labels, tuple(_NAMES[label] for label in labels))


def carried_through(count: int, size: tuple[int, int]) -> tuple[Camera, Poses]:
    """A camera of ``size`` (width, height) at ``count`` places of a small circle, looking across it to all sides."""
    width, height = size
    focal = 0.9 * width
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])
    azimuth = np.linspace(0, 2 * np.pi, count, endpoint=False)
    eyes = np.column_stack([1.3 * np.cos(azimuth), 1.3 * np.sin(azimuth), _EYE + 0.15 * np.sin(3 * azimuth)])
    aims = np.column_stack(
        [-1.5 * np.cos(azimuth + 0.4), -1.5 * np.sin(azimuth + 0.4), 0.55 + 0.35 * np.cos(5 * azimuth)]
    )
    return Camera("color", width, height, K), np.stack([looking(eye, aim) for eye, aim in zip(eyes, aims, strict=True)])


def _shell(rng: np.random.Generator, width: float, depth: float) -> Mesh:
    floor = paint.pick(rng, *_WOODS, paint.srgb(150, 145, 138))
    wall = Surface(paint.pick(rng, paint.srgb(225, 220, 205), paint.srgb(190, 205, 210), paint.srgb(215, 195, 170)))
    ground = box((width, depth, 0.1), (0, 0, -0.05), Surface(floor, paint.scaled(floor, 0.7), textures.PLASTER, 0.4))
    sides = [box((0.1, depth + 0.2, _HEIGHT), (s * (width / 2 + 0.05), 0, _HEIGHT / 2), wall) for s in (-1, 1)]
    sides += [box((width, 0.1, _HEIGHT), (0, s * (depth / 2 + 0.05), _HEIGHT / 2), wall) for s in (-1, 1)]
    return join([ground.tagged(FLOOR), join(sides).tagged(WALL)])


def _table(rng: np.random.Generator) -> Mesh:
    wood, (a, b) = Surface(paint.pick(rng, *_WOODS)), rng.uniform(0.9, 1.3, 2)
    legs = [tube([(sx * a * 0.42, sy * b * 0.42, 0), (sx * a * 0.42, sy * b * 0.42, 0.7)], 0.03, wood)
            for sx in (-1, 1) for sy in (-1, 1)]  # fmt: skip
    return join([box((a, b, 0.05), (0, 0, 0.73), wood), *legs]).tagged(TABLE)


def _chair(rng: np.random.Generator) -> Mesh:
    """Its back towards x."""
    seat = Surface(paint.pick(rng, *_CLOTHS, *_WOODS))
    legs = [
        tube([(sx * 0.18, sy * 0.18, 0), (sx * 0.18, sy * 0.18, 0.45)], 0.02, seat) for sx in (-1, 1) for sy in (-1, 1)
    ]
    return join(
        [box((0.42, 0.42, 0.06), (0, 0, 0.46), seat), box((0.05, 0.4, 0.5), (0.2, 0, 0.72), seat), *legs]
    ).tagged(CHAIR)


def _bed(rng: np.random.Generator) -> Mesh:
    wood, sheet = Surface(paint.pick(rng, *_WOODS)), Surface(paint.pick(rng, paint.srgb(225, 222, 215), *_CLOTHS))
    parts = [box((1.9, 1.3, 0.25), (-0.95, 0, 0.2), wood), box((1.85, 1.25, 0.2), (-0.95, 0, 0.42), sheet)]
    parts += [box((0.06, 1.3, 0.9), (-0.03, 0, 0.45), wood), box((0.4, 0.6, 0.12), (-0.3, 0, 0.57), sheet)]
    return join(parts).tagged(BED)


def _sofa(rng: np.random.Generator) -> Mesh:
    cloth = Surface(paint.pick(rng, *_CLOTHS))
    parts = [box((0.85, 1.7, 0.42), (-0.43, 0, 0.21), cloth), box((0.2, 1.7, 0.45), (-0.1, 0, 0.62), cloth)]
    parts += [box((0.85, 0.18, 0.6), (-0.43, s * 0.85, 0.3), cloth) for s in (-1, 1)]
    return join(parts).tagged(SOFA)


def _cabinet(rng: np.random.Generator) -> Mesh:
    wood, tall = Surface(paint.pick(rng, *_WOODS, paint.srgb(230, 228, 222))), rng.uniform(0.8, 1.9)
    dark = Surface(paint.scaled(paint.pick(rng, *_WOODS), 0.5))
    doors = [box((0.02, 0.5, tall - 0.12), (-0.46, s * 0.27, tall / 2), dark) for s in (-1, 1)]
    return join([box((0.45, 1.15, tall), (-0.23, 0, tall / 2), wood), *doors]).tagged(CABINET)


def _bookshelf(rng: np.random.Generator) -> Mesh:
    wood = Surface(paint.pick(rng, *_WOODS))
    parts = [box((0.32, 1.1, 0.03), (-0.16, 0, z), wood) for z in np.arange(0.1, 2.0, 0.38)]
    parts += [box((0.32, 0.03, 1.95), (-0.16, s * 0.55, 0.98), wood) for s in (-1, 1)]
    for z in np.arange(0.1, 1.6, 0.38):
        for y in np.arange(-0.48, 0.45, 0.07):
            book = Surface(paint.hsv(rng.uniform(), rng.uniform(0.3, 0.8), rng.uniform(0.3, 0.9)))
            tall = rng.uniform(0.2, 0.3)
            parts.append(box((0.22, 0.06, tall), (-0.14, y, z + 0.015 + tall / 2), book))
    return join(parts).tagged(BOOKSHELF)


def _on_wall(rng: np.random.Generator, wall: int) -> Mesh:
    """A door on the first wall's side, a window on the second's, pictures on the others'."""
    side = 1.35
    if wall == 0:
        return box((0.05, 0.85, 2.05), (0, side, 1.03), Surface(paint.pick(rng, *_WOODS))).tagged(DOOR)
    if wall == 1:
        return box((0.04, 0.9, 1.0), (0, side, 1.6), paint.GLASS).tagged(WINDOW)
    colours = [Surface(paint.hsv(rng.uniform(), 0.5, 0.8)) for _ in range(3)]
    parts = [box((0.03, 0.7, 0.5), (0, -side, 1.7), Surface(_WOODS[2]))]
    parts += [box((0.01, 0.2, 0.4), (-0.02, -side + (k - 1) * 0.21, 1.7), colour) for k, colour in enumerate(colours)]
    return join(parts).tagged(PICTURE)


_ALONG_WALLS: tuple[Callable[[np.random.Generator], Mesh], ...] = (_bed, _sofa, _cabinet, _bookshelf)
"""Each with its back at x = 0, towards the wall, and the room at smaller x."""
