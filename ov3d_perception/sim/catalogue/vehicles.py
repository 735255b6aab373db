"""Cars, buses, trucks and trailers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ov3d_perception.sim import classes, textures
from ov3d_perception.sim.catalogue import paint
from ov3d_perception.sim.meshes import Mesh, Surface, box, join, loft, place, prism, tube, wheel

# Side views (x, z) in shares of the length and in metres: the body below the windows, and the cabin above it.
_BODIES = {
    "sedan": ([(0, .35), (.01, .62), (.05, .80), (.20, .92), (.72, .93), (.94, .80), (1, .60), (.99, .30), (.97, .22),
               (.03, .22)],
              [(.12, .90), (.28, 1.38), (.36, 1.45), (.54, 1.44), (.72, .92)], 4.6, 1.82),
    "hatch": ([(0, .35), (.01, .85), (.05, .95), (.70, .95), (.94, .80), (1, .58), (.99, .30), (.97, .22), (.03, .22)],
              [(.02, .93), (.09, 1.42), (.18, 1.50), (.52, 1.48), (.74, .94)], 4.0, 1.76),
    "estate": ([(0, .35), (.01, .80), (.03, .94), (.72, .94), (.94, .80), (1, .60), (.99, .30), (.97, .22), (.03, .22)],
               [(.02, .92), (.06, 1.42), (.12, 1.50), (.54, 1.48), (.74, .93)], 4.75, 1.84),
    "suv": ([(0, .45), (.01, 1.0), (.04, 1.08), (.70, 1.08), (.95, .98), (1, .70), (.99, .40), (.97, .30), (.03, .30)],
            [(.02, 1.06), (.06, 1.65), (.12, 1.74), (.54, 1.72), (.70, 1.07)], 4.65, 1.92),
    "van": ([(0, .40), (.00, 1.1), (.80, 1.1), (.97, .95), (1, .65), (.99, .36), (.97, .28), (.03, .28)],
            [(.005, 1.08), (.015, 1.85), (.04, 1.95), (.62, 1.93), (.80, 1.09)], 5.0, 1.95),
    "pickup": ([(0, .5), (.0, .98), (.42, .98), (.72, 1.0), (.95, .95), (1, .72), (.99, .42), (.97, .34), (.03, .34)],
               [(.40, .96), (.42, 1.68), (.47, 1.76), (.60, 1.74), (.72, .99)], 5.3, 1.95),
}  # fmt: skip


def car(rng: np.random.Generator) -> Mesh:
    """A sedan, hatchback, estate, SUV, van or pick-up in a random size and colour."""
    kind = rng.choice(list(_BODIES), p=[0.27, 0.22, 0.14, 0.2, 0.1, 0.07])
    lower, cabin, length, width = _BODIES[kind]
    length, width, tall = length * rng.uniform(0.93, 1.07), width * rng.uniform(0.96, 1.04), rng.uniform(0.95, 1.05)
    body = paint.car_paint(rng)

    def metres(profile: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [((x - 0.5) * length, z * tall) for x, z in profile]

    half = width / 2
    parts = [loft(metres(lower), [(-half, 0.97), (-half + 0.12, 1.0), (half - 0.12, 1.0), (half, 0.97)], body)]
    glasshouse = metres(cabin)
    inner = half - 0.10
    parts.append(
        loft(glasshouse, [(-inner, 0.86), (-inner + 0.14, 1.0), (inner - 0.14, 1.0), (inner, 0.86)], paint.GLASS)
    )
    top = max(z for _, z in glasshouse)
    roof = [p for p in glasshouse if p[1] > top - 0.12]
    front, rear = max(x for x, _ in roof), min(x for x, _ in roof)
    parts.append(box((front - rear + 0.15, width - 0.34, 0.05), ((front + rear) / 2, 0, top), body, taper=(0.94, 0.92)))
    parts += _pillars(glasshouse, inner, body)
    parts += _lights(length, width, 0.72 * tall, 0.72 * tall)
    radius = 0.30 + 0.05 * (kind in ("suv", "van", "pickup")) + rng.uniform(0, 0.03)
    parts += _wheels([(0.32 * length, half), (-0.31 * length, half)], radius, 0.22)
    for side in (-1, 1):
        parts.append(box((0.12, 0.2, 0.12), (0.20 * length, side * (half + 0.05), 1.0 * tall), body))
    return join(parts).tagged(classes.CAR)


def _pillars(cabin: list[tuple[float, float]], inner: float, body: Surface) -> list[Mesh]:
    """Bars from the belt to the roof, so that side windows show as separate panes."""
    belt, top = cabin[0][1], max(z for _, z in cabin)
    rear, front = cabin[1][0], cabin[-2][0]
    middle = (rear + front) / 2
    bars = []
    for side in (-1, 1):
        low, high = side * (inner + 0.0), side * (inner - 0.13)
        ends = ((cabin[0][0], cabin[1][0]), (middle, middle), (cabin[-1][0], front))
        bars += [tube([(a, low, belt), (b, high, top - 0.02)], 0.045, body, 4) for a, b in ends]
    return bars


def _wheels(places: Sequence[tuple[float, float]], radius: float, width: float) -> list[Mesh]:
    return [
        wheel(radius, width, (x, side * (half - width / 2 + 0.02), radius), paint.TYRE, paint.RIM)
        for x, half in places
        for side in (-1, 1)
    ]


def _lights(length: float, width: float, front_z: float, rear_z: float) -> list[Mesh]:
    parts = []
    for side in (-1, 1):
        y = side * (width / 2 - 0.28)
        parts.append(box((0.08, 0.36, 0.13), (length / 2 - 0.05, y, front_z), paint.LAMP))
        parts.append(box((0.08, 0.30, 0.16), (-length / 2 + 0.03, y, rear_z + 0.08), paint.TAIL_LAMP))
    parts.append(box((0.04, 0.5, 0.12), (-length / 2 + 0.01, 0, rear_z - 0.12), paint.PLATE))
    parts.append(box((0.04, 0.5, 0.12), (length / 2 - 0.01, 0, front_z - 0.25), paint.PLATE))
    parts.append(box((0.06, width * 0.5, 0.14), (length / 2 - 0.03, 0, front_z - 0.06), paint.BLACK))
    return parts


def bus(rng: np.random.Generator) -> Mesh:
    """A city bus: one long box with a band of windows, doors, a destination sign, sometimes two-coloured."""
    length, width, height = rng.uniform(9.5, 12.5), rng.uniform(2.45, 2.6), rng.uniform(2.95, 3.3)
    low, high = (paint.hsv(rng.uniform(), rng.uniform(0.35, 0.9), rng.uniform(0.4, 0.9)), paint.srgb(235, 235, 230))
    if rng.uniform() < 0.4:
        high = low
    skirt, crown = Surface(low, reflectivity=0.4, gloss=0.5), Surface(high, reflectivity=0.5, gloss=0.5)
    x, w = length / 2, width / 2
    parts = [
        box((length, width, 0.9), (0, 0, 0.75), skirt),
        box((length - 0.1, width, 0.5), (0, 0, height - 0.25), crown),
    ]
    parts.append(box((length - 0.06, width - 0.04, height - 1.6), (0, 0, 0.65 + height / 2 - 0.3), paint.GLASS))
    for post in np.arange(-x + 0.1, x, rng.uniform(1.2, 1.7)):
        parts += [
            box((0.12, 0.06, height - 1.5), (post, side * (w - 0.02), height / 2 + 0.35), crown) for side in (-1, 1)
        ]
    for post in (x - 0.9, 0.2):
        parts.append(box((1.15, 0.05, 2.3), (post, -w, 1.5), paint.BLACK))
        parts += [box((0.5, 0.06, 1.9), (post + shift, -w - 0.01, 1.5), paint.GLASS) for shift in (-0.28, 0.28)]
    parts.append(box((0.06, width * 0.7, 0.32), (x - 0.02, 0, height - 0.28), paint.BLACK))
    digits = Surface(paint.srgb(250, 170, 30), paint.srgb(20, 20, 20), textures.CHEQUER, 0.11, 0.5)
    parts.append(box((0.06, width * 0.45, 0.18), (x, 0, height - 0.28), digits))
    parts.append(box((length * 0.4, width * 0.6, 0.22), (-length * 0.1, 0, height + 0.1), crown))
    parts += _lights(length, width, 0.65, 0.85)
    parts += _wheels([(x - 2.6, w), (-x + 3.0, w)], 0.48, 0.3)
    return join(parts).tagged(classes.BUS)


def _cab(rng: np.random.Generator, x: float, width: float, height: float, body: Surface) -> list[Mesh]:
    """A cab-over truck's cab, its front at x."""
    deep = rng.uniform(1.9, 2.3)
    profile = [(x - deep, 0.5), (x - deep, height), (x - 0.35, height), (x - 0.05, height * 0.55), (x, 1.1), (x, 0.45)]
    screen = [
        (x - 0.33, height - 0.08),
        (x - 0.03, height * 0.55),
        (x - 0.12, height * 0.55),
        (x - 0.45, height - 0.08),
    ]
    parts = [prism(profile, width, body), prism([(a + 0.04, b) for a, b in screen], width * 0.88, paint.GLASS)]
    for side in (-1, 1):
        parts.append(box((0.9, 0.04, height * 0.28), (x - 0.85, side * width / 2, height * 0.72), paint.GLASS))
        parts.append(box((0.1, 0.25, 0.5), (x - 0.15, side * (width / 2 + 0.15), height * 0.7), paint.BLACK))
        parts.append(box((0.06, 0.35, 0.2), (x, side * width * 0.36, 0.75), paint.LAMP))
    parts.append(box((0.05, width * 0.6, 0.5), (x + 0.01, 0, 1.15), paint.BLACK))
    parts.append(box((0.12, width, 0.28), (x - 0.02, 0, 0.5), paint.STEEL))
    return parts


def truck(rng: np.random.Generator) -> Mesh:
    """A rigid truck: cab, chassis and a box, tarpaulin, flat bed, tank or tipper."""
    length, width, height = rng.uniform(6.5, 9.5), rng.uniform(2.3, 2.55), rng.uniform(2.3, 2.9)
    x, body = length / 2, paint.car_paint(rng)
    parts = _cab(rng, x, width, height, body)
    parts.append(box((length - 0.3, 0.9, 0.25), (-0.1, 0, 0.8), paint.BLACK))
    parts += _cargo(rng, -x, x - 2.5, width)
    parts += _wheels([(x - 1.3, width / 2), (-x + 1.6, width / 2)], 0.5, 0.35)
    parts += [box((0.06, 0.3, 0.15), (-x - 0.02, side * 0.9, 0.85), paint.TAIL_LAMP) for side in (-1, 1)]
    return join(parts).tagged(classes.TRUCK)


def _cargo(rng: np.random.Generator, rear: float, front: float, width: float) -> list[Mesh]:
    kind = rng.choice(["box", "flat", "tank", "tipper"], p=[0.5, 0.17, 0.15, 0.18])
    size, middle = front - rear, (front + rear) / 2
    paint_ = Surface(paint.hsv(rng.uniform(), rng.uniform(0, 0.8), rng.uniform(0.4, 0.95)), reflectivity=0.5, gloss=0.2)
    if kind == "box":
        tall = rng.uniform(2.0, 2.6)
        logo = Surface(paint.hsv(rng.uniform(), 0.8, 0.7), paint_.colour, textures.CHEQUER, 0.5, 0.5)
        sides = [
            box((size * 0.5, 0.03, 0.6), (middle, s * (width / 2 + 0.01), 1.1 + tall * 0.55), logo) for s in (-1, 1)
        ]
        return [box((size, width, tall), (middle, 0, 1.0 + tall / 2), paint_), *sides]
    if kind == "tank":
        metal = Surface(paint.srgb(190, 192, 195), reflectivity=0.6, gloss=0.7)
        return [tube([(rear, 0, 2.0), (rear + 0.2, 0, 2.0), (front - 0.2, 0, 2.0), (front, 0, 2.0)],
                     [0.7, 1.0, 1.0, 0.7], metal, 14)]  # fmt: skip
    rim = 1.75 if kind == "tipper" else 1.15
    parts = [box((size, width, 0.12), (middle, 0, 1.02), paint_)]
    parts += [box((size, 0.08, rim - 0.95), (middle, s * (width / 2 - 0.04), (rim + 1.0) / 2), paint_) for s in (-1, 1)]
    parts += [box((0.08, width, rim - 0.95), (end, 0, (rim + 1.0) / 2), paint_) for end in (rear + 0.04, front - 0.04)]
    load = Surface(paint.srgb(130, 105, 75), paint.srgb(95, 80, 60), textures.DIRT, 1.0, 0.35)
    return [*parts, box((size * 0.85, width * 0.8, 0.6), (middle, 0, rim - 0.15), load, taper=(0.6, 0.5))]


def trailer(rng: np.random.Generator) -> Mesh:
    """A trailer without its tractor: a caravan, a tarpaulin semi-trailer on legs, or a small two-wheeled box."""
    kind = rng.choice(["semi", "caravan", "small"], p=[0.45, 0.25, 0.3])
    if kind == "semi":
        parts = _semi_trailer(rng)
    elif kind == "caravan":
        length, width = rng.uniform(4.5, 6.0), 2.25
        x = length / 2
        shell = Surface(paint.srgb(240, 238, 230), reflectivity=0.7, gloss=0.4)
        profile = [(-x, 0.5), (-x, 2.2), (-x + 0.3, 2.55), (x - 0.6, 2.55), (x - 0.1, 1.6), (x, 0.9), (x - 0.3, 0.5)]
        parts = [prism(profile, width, shell), *_wheels([(0, width / 2)], 0.32, 0.2)]
        band = Surface(paint.hsv(rng.uniform(), 0.7, 0.6), reflectivity=0.5)
        for side in (-1, 1):
            parts.append(box((length * 0.9, 0.03, 0.14), (0, side * width / 2, 1.05), band))
            parts += [box((0.9, 0.04, 0.55), (at * x, side * width / 2, 1.75), paint.GLASS) for at in (-0.5, 0.3)]
        parts.append(tube([(x - 0.3, 0, 0.5), (x + 1.0, 0, 0.5)], 0.06, paint.STEEL, 5))
    else:
        length, width, tall = rng.uniform(2.4, 3.4), 1.6, rng.uniform(0.5, 1.6)
        tarp = Surface(paint.hsv(rng.uniform(), rng.uniform(0.2, 0.8), 0.5), reflectivity=0.35)
        parts = [box((length, width, 0.35), (0, 0, 0.72), paint.STEEL)]
        parts.append(box((length, width, tall), (0, 0, 0.9 + tall / 2), tarp, taper=(0.97, 0.9)))
        parts += [tube([(length / 2, s * 0.5, 0.6), (length / 2 + 1.2, 0, 0.5)], 0.04, paint.STEEL, 5) for s in (-1, 1)]
        parts += _wheels([(0, width / 2 + 0.2)], 0.3, 0.18)
        parts += [box((0.04, 0.3, 0.12), (-length / 2 - 0.02, s * 0.6, 0.7), paint.TAIL_LAMP) for s in (-1, 1)]
    return join(parts).tagged(classes.TRAILER)


def _semi_trailer(rng: np.random.Generator) -> list[Mesh]:
    length, width, tall = rng.uniform(8.0, 11.5), 2.5, rng.uniform(2.4, 2.7)
    x = length / 2
    tarp = Surface(paint.hsv(rng.uniform(), rng.uniform(0.3, 0.9), rng.uniform(0.3, 0.8)),
                   paint.srgb(60, 60, 60), textures.PLANKS, 0.9, 0.45)  # fmt: skip
    parts = [
        box((length, width, tall), (0, 0, 1.15 + tall / 2), tarp),
        box((length, 0.9, 0.25), (0, 0, 1.0), paint.BLACK),
    ]
    parts += _wheels([(-x + 1.2 + 1.25 * k, width / 2) for k in range(3)], 0.48, 0.35)
    parts += [box((0.15, 0.15, 1.0), (x - 2.2, side * 0.8, 0.5), paint.STEEL) for side in (-1, 1)]
    parts.append(
        box(
            (0.05, width * 0.9, 0.2),
            (-x - 0.03, 0, 0.85),
            paint.stripes(paint.srgb(220, 30, 20), paint.srgb(240, 240, 230), 0.4),
        )
    )
    return parts


def articulated(rng: np.random.Generator) -> Mesh:
    """A tractor (truck) with a semi-trailer (trailer) behind."""
    body = paint.car_paint(rng)
    trailer_ = join(_semi_trailer(rng)).tagged(classes.TRAILER)
    length = float(np.ptp(trailer_.vertices[..., 0]))
    front = length / 2 + 2.7
    parts = [
        *_cab(rng, front, 2.5, rng.uniform(2.9, 3.4), body),
        box((5.6, 0.9, 0.25), (front - 2.9, 0, 0.8), paint.BLACK),
    ]
    parts += _wheels([(front - 1.3, 1.25), (front - 4.3, 1.25)], 0.5, 0.35)
    whole = join([join(parts).tagged(classes.TRUCK), trailer_])
    return whole.moved(place(-1.35))
