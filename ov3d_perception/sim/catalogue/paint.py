"""Colours and common surfaces."""

from __future__ import annotations

import colorsys

import numpy as np

from ov3d_perception.sim import textures
from ov3d_perception.sim.meshes import Surface

Rgb = tuple[float, float, float]


def srgb(red: float, green: float, blue: float) -> Rgb:
    """Linear RGB of a colour given as sRGB in [0, 255]."""
    return (red / 255) ** 2.2, (green / 255) ** 2.2, (blue / 255) ** 2.2


def hsv(hue: float, saturation: float, value: float) -> Rgb:
    """Linear RGB of a hue (turns), saturation and value."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return red**2.2, green**2.2, blue**2.2


def pick(rng: np.random.Generator, *colours: Rgb, jitter: float = 0.15) -> Rgb:
    """One of ``colours``, each channel changed by up to ``jitter`` of itself, and all by a common factor."""
    base = np.array(colours[rng.integers(len(colours))])
    varied = base * rng.uniform(1 - jitter, 1 + jitter) * rng.uniform(1 - jitter / 2, 1 + jitter / 2, 3)
    return scaled((1.0, 1.0, 1.0), *np.clip(varied, 0.003, 0.95))


def scaled(colour: Rgb, *factors: float) -> Rgb:
    """The colour times one factor, or times one factor a channel."""
    red, green, blue = (float(c) for c in np.array(colour) * factors)
    return red, green, blue


def car_paint(rng: np.random.Generator) -> Surface:
    """White, silver, grey, black, red, blue, rarely green, yellow, brown; glossy."""
    colours = (
        srgb(238, 238, 236), srgb(190, 194, 198), srgb(110, 114, 120), srgb(28, 29, 33), srgb(165, 24, 28),
        srgb(30, 58, 130), srgb(238, 238, 236), srgb(60, 64, 70), srgb(40, 95, 70), srgb(225, 190, 30),
        srgb(100, 70, 50), srgb(120, 170, 210),
    )  # fmt: skip
    colour = pick(rng, *colours)
    return Surface(colour, reflectivity=0.15 + 0.6 * max(colour), gloss=0.6)


GLASS = Surface(srgb(40, 52, 62), reflectivity=0.06, gloss=1.0)
TYRE = Surface(srgb(26, 26, 28), reflectivity=0.06)
RIM = Surface(srgb(165, 168, 172), reflectivity=0.5, gloss=0.3)
CHROME = Surface(srgb(150, 152, 156), reflectivity=0.5, gloss=0.6)
BLACK = Surface(srgb(22, 22, 24), reflectivity=0.08, gloss=0.1)
LAMP = Surface(srgb(245, 240, 215), reflectivity=0.8, gloss=0.6)
TAIL_LAMP = Surface(srgb(170, 15, 15), reflectivity=0.8, gloss=0.4)
PLATE = Surface(srgb(235, 235, 225), reflectivity=1.0)
STEEL = Surface(srgb(128, 132, 136), reflectivity=0.45, gloss=0.2)


def stripes(a: Rgb, b: Rgb, period: float, reflectivity: float = 0.7) -> Surface:
    """Warning stripes."""
    return Surface(a, b, textures.STRIPES, period, reflectivity)
