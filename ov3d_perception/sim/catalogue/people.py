"""People and two-wheelers."""

from __future__ import annotations

import numpy as np

from ov3d_perception.sim import classes, textures
from ov3d_perception.sim.catalogue import paint
from ov3d_perception.sim.meshes import Mesh, Surface, box, ellipsoid, join, place, ring, tube, wheel

_SKIN = (paint.srgb(236, 196, 170), paint.srgb(205, 155, 120), paint.srgb(140, 95, 65), paint.srgb(85, 55, 40))
_HAIR = (paint.srgb(35, 25, 20), paint.srgb(90, 60, 35), paint.srgb(190, 150, 90), paint.srgb(130, 130, 130))


def _cloth(rng: np.random.Generator) -> Surface:
    colour = paint.hsv(rng.uniform(), rng.uniform(0.0, 0.9), rng.uniform(0.12, 0.95))
    accent = paint.hsv(rng.uniform(), rng.uniform(0.0, 0.7), rng.uniform(0.2, 0.9))
    return Surface(colour, accent if rng.uniform() < 0.3 else colour, textures.CLOTH, 0.08, rng.uniform(0.2, 0.6))


def pedestrian(rng: np.random.Generator, phase: float = 0.0, stride: float = 0.0) -> Mesh:
    """A standing (``stride`` 0) or walking person; ``phase`` in turns is the point of the step. 1.5 to 1.95 m tall."""
    tall = rng.uniform(1.5, 1.95) / 1.75
    stout = rng.uniform(0.85, 1.25)
    top, trousers = _cloth(rng), _cloth(rng)
    skin, hair = Surface(paint.pick(rng, *_SKIN), reflectivity=0.45), Surface(paint.pick(rng, *_HAIR), reflectivity=0.2)
    shoes = Surface(paint.pick(rng, paint.srgb(25, 25, 25), paint.srgb(90, 60, 40), paint.srgb(220, 220, 220)))
    swing = stride * np.sin(2 * np.pi * phase)
    bend = rng.uniform(0, 1.2, 2) if stride == 0 else np.array([0.4, 0.4])
    skirt, extra = rng.uniform() < 0.2, rng.choice(["none", "backpack", "bag", "hat"], p=[0.5, 0.2, 0.2, 0.1])
    parts = []
    for side in (-1, 1):
        leg, arm = side * swing, -side * swing
        knee, foot = (0.22 * leg + 0.05 * stride, side * 0.10, 0.47), (0.42 * leg, side * 0.10, 0.08)
        parts.append(tube([(0, side * 0.09, 0.90), knee, foot], [0.095 * stout, 0.07, 0.055], trousers, 5))
        parts.append(box((0.27, 0.10, 0.10), (foot[0] + 0.05, foot[1], 0.05), shoes))
        elbow = (0.25 * arm - 0.03, side * 0.25 * stout, 1.10)
        hand = (
            elbow[0] + 0.25 * np.sin(bend[(side + 1) // 2]) + 0.1 * arm,
            side * 0.24 * stout,
            1.10 - 0.26 * np.cos(bend[(side + 1) // 2]),
        )
        parts.append(tube([(0, side * 0.20 * stout, 1.40), elbow, hand], [0.06, 0.05, 0.04], top, 5))
        parts.append(ellipsoid((0.05, 0.04, 0.06), hand, skin, subdivisions=0))
    parts.append(tube([(0, 0, 0.84), (0, 0, 1.05), (0, 0, 1.30), (0, 0, 1.47)],
                      np.array([0.155, 0.15, 0.185, 0.12]) * stout, top, 8))  # fmt: skip
    if skirt:
        parts.append(tube([(0, 0, 0.50), (0, 0, 0.98)], [0.27 * stout, 0.15 * stout], trousers, 9))
    parts.append(tube([(0, 0, 1.45), (0, 0, 1.56)], 0.055, skin, 6))
    parts.append(ellipsoid((0.10, 0.085, 0.125), (0.01, 0, 1.64), skin))
    parts.append(ellipsoid((0.11, 0.095, 0.11), (-0.025, 0, 1.68), hair))
    if extra == "backpack":
        parts.append(box((0.16, 0.30, 0.42), (-0.24, 0, 1.24), _cloth(rng)))
    elif extra == "bag":
        parts.append(box((0.30, 0.12, 0.30), (0.02, 0.34, 0.68), _cloth(rng)))
    elif extra == "hat":
        parts.append(tube([(0, 0, 1.72), (0, 0, 1.80)], [0.16, 0.11], _cloth(rng), 9))
    return join(parts).tagged(classes.PEDESTRIAN).moved(place(scale=tall))


def _rider(
    rng: np.random.Generator, seat: tuple[float, float], bar: tuple[float, float], foot: tuple[float, float]
) -> list[Mesh]:
    """A person on a two-wheeler, from seat, handlebar and pedal positions (x, z)."""
    top, trousers, skin = _cloth(rng), _cloth(rng), Surface(paint.pick(rng, *_SKIN), reflectivity=0.45)
    helmet = Surface(paint.hsv(rng.uniform(), rng.uniform(0, 0.8), rng.uniform(0.2, 0.95)), reflectivity=0.5, gloss=0.4)
    (sx, sz), (bx, bz), (fx, fz) = seat, bar, foot
    neck = (sx + 0.30, 0, sz + 0.58)
    parts = [tube([(sx, 0, sz), ((sx + neck[0]) / 2, 0, sz + 0.32), neck], [0.16, 0.18, 0.10], top, 8)]
    for side in (-1, 1):
        knee = ((sx + fx) / 2 + 0.28, side * 0.16, (sz + fz) / 2 + 0.12)
        parts.append(tube([(sx, side * 0.10, sz), knee, (fx, side * 0.13, fz)], [0.09, 0.075, 0.05], trousers, 6))
        elbow = ((neck[0] + bx) / 2, side * 0.26, (neck[2] + bz) / 2 - 0.08)
        parts.append(
            tube([(neck[0], side * 0.18, neck[2] - 0.06), elbow, (bx, side * 0.25, bz)], [0.06, 0.05, 0.04], top, 6)
        )
    parts.append(ellipsoid((0.10, 0.085, 0.12), (neck[0] + 0.06, 0, neck[2] + 0.16), skin))
    parts.append(ellipsoid((0.14, 0.12, 0.11), (neck[0] + 0.04, 0, neck[2] + 0.22), helmet))
    return parts


def bicycle(rng: np.random.Generator, rider: bool = False) -> Mesh:
    """A bicycle of thin tubes, with panniers or basket at times; a rider counts as bicycle, as in nuScenes."""
    frame = Surface(
        paint.hsv(rng.uniform(), rng.uniform(0.2, 0.9), rng.uniform(0.15, 0.9)), reflectivity=0.5, gloss=0.4
    )
    r = rng.uniform(0.32, 0.35)
    rear, front, crank, seat, head = (-0.52, r), (0.54, r), (-0.06, 0.30), (-0.22, 0.88), (0.38, 0.86)
    parts = [ring(r, 0.028, (x, 0, z), paint.TYRE) for x, z in (rear, front)]
    for x, z in (rear, front):
        for angle in np.arange(4) * np.pi / 4:
            dx, dz = r * np.cos(angle), r * np.sin(angle)
            parts.append(tube([(x - dx, 0, z - dz), (x + dx, 0, z + dz)], 0.007, paint.CHROME, 3))
    for (xa, za), (xb, zb) in ((rear, crank), (rear, seat), (crank, seat), (crank, head), (seat, head), (head, front)):
        parts.append(tube([(xa, 0, za), (xb, 0, zb)], 0.026, frame, 5))
    parts += [
        box((0.26, 0.13, 0.07), (-0.24, 0, 0.94), paint.BLACK),
        tube([(0.38, 0, 0.86), (0.36, 0, 1.02)], 0.02, paint.CHROME, 5),
    ]
    parts.append(tube([(0.30, -0.30, 1.03), (0.38, 0, 1.03), (0.30, 0.30, 1.03)], 0.022, paint.BLACK, 5))
    parts.append(tube([(crank[0], -0.12, crank[1]), (crank[0], 0.12, crank[1])], 0.09, paint.CHROME, 8))
    if rng.uniform() < 0.35:
        parts.append(box((0.30, 0.34, 0.24), (0.66, 0, 0.86), Surface(paint.srgb(120, 90, 55), reflectivity=0.3)))
    if rng.uniform() < 0.25:
        parts += [box((0.34, 0.12, 0.32), (-0.58, s * 0.14, 0.58), _cloth(rng)) for s in (-1, 1)]
    if rider:
        parts += _rider(rng, (-0.22, 0.98), (0.32, 1.04), (-0.06 + rng.uniform(-0.1, 0.1), 0.30))
    return join(parts).tagged(classes.BICYCLE)


def motorcycle(rng: np.random.Generator, rider: bool = False) -> Mesh:
    """A motorcycle or a scooter; a rider counts as motorcycle, as in nuScenes."""
    hue = rng.choice([0.0, 0.6, 0.1, 0.33, rng.uniform()])
    colour = paint.hsv(hue, rng.uniform(0.1, 1), rng.uniform(0.1, 0.9))
    body = Surface(colour, reflectivity=0.5, gloss=0.7)
    scooter = rng.uniform() < 0.35
    r, base = (0.25, 0.64) if scooter else (0.32, 0.72)
    parts = [wheel(r, 0.15, (x, 0, r), paint.TYRE, paint.CHROME) for x in (-base, base)]
    if scooter:
        parts += [
            box((0.75, 0.36, 0.40), (-0.45, 0, 0.60), body, taper=(0.85, 0.7)),
            box((0.55, 0.32, 0.10), (0.05, 0, 0.30), body),
        ]
        parts += [
            box((0.14, 0.40, 0.70), (0.42, 0, 0.65), body, taper=(0.6, 0.7)),
            box((0.70, 0.28, 0.10), (-0.42, 0, 0.84), paint.BLACK),
        ]
    else:
        parts += [
            ellipsoid((0.34, 0.17, 0.19), (0.14, 0, 0.86), body),
            box((0.55, 0.32, 0.40), (0.0, 0, 0.50), paint.STEEL),
        ]
        parts += [
            box((0.70, 0.26, 0.10), (-0.42, 0, 0.82), paint.BLACK),
            box((0.30, 0.20, 0.12), (-0.78, 0, 0.85), body),
        ]
        parts += [tube([(0.05, -0.2, 0.35), (-0.85, -0.22, 0.42)], [0.05, 0.08], paint.CHROME, 7)]
        parts.append(box((0.24, 0.34, 0.34), (0.55, 0, 0.98), body, taper=(0.5, 0.8)))
    parts += [tube([(base, s * 0.10, r), (0.42, s * 0.10, 0.98)], 0.03, paint.CHROME, 5) for s in (-1, 1)]
    parts.append(tube([(0.30, -0.36, 1.06), (0.42, 0, 1.02), (0.30, 0.36, 1.06)], 0.025, paint.BLACK, 5))
    parts += [
        ellipsoid((0.07, 0.10, 0.10), (0.62, 0, 0.90), paint.LAMP),
        box((0.05, 0.14, 0.08), (-0.92, 0, 0.78), paint.TAIL_LAMP),
    ]
    if rider:
        parts += _rider(rng, (-0.30, 0.92), (0.34, 1.06), (-0.05, 0.36))
    return join(parts).tagged(classes.MOTORCYCLE)
