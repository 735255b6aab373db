"""Procedural textures: colour of a surface at texture coordinates, as vectorised numpy over many hits at once.

Each texture is a function (uv in metres, scale, colour, accent, noise) -> colour. Coordinates are the object's own, so
that a texture sticks to it. Fine patterns fade with distance, which stands in for filtering.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

from ov3d_perception.sim.meshes import ACCENT, COLOUR, SCALE, TEXTURE

Colour = Float32[np.ndarray, "n 3"]
Values = Float32[np.ndarray, " n"]

_TILE = 512
_SHADERS: dict[int, Callable[..., Colour]] = {}


@lru_cache(maxsize=1)
def _tiles() -> Float32[np.ndarray, "2 t t"]:
    """Two tileable noise images in [-1, 1]: white-ish fine grain and clouds of several octaves."""
    rng = np.random.default_rng(20)
    fine = ndimage.gaussian_filter(rng.normal(size=(_TILE, _TILE)), 0.8, mode="wrap")
    octaves = [ndimage.gaussian_filter(rng.normal(size=(_TILE, _TILE)), s, mode="wrap") * s for s in (2, 6, 16, 40)]
    cloud = np.sum(octaves, axis=0)
    return np.stack([np.clip(tile / (2.2 * tile.std()), -1, 1) for tile in (fine, cloud)]).astype(np.float32)


def grain(uv: np.ndarray, metre_per_cell: float) -> Values:
    """Fine noise in [-1, 1] with cells of the given size."""
    return _sample(0, uv, metre_per_cell)


def cloud(uv: np.ndarray, metre_per_cell: float) -> Values:
    """Noise in [-1, 1] over many scales; features are about 2 to 40 cells wide."""
    return _sample(1, uv, metre_per_cell)


def _sample(tile: int, uv: np.ndarray, metre_per_cell: float) -> Values:
    cell = np.floor(uv * np.float32(1.0 / metre_per_cell)).astype(np.int32) & (_TILE - 1)
    return _tiles()[tile].ravel()[cell[:, 1] * _TILE + cell[:, 0]]


def _hash(i: np.ndarray, j: np.ndarray) -> Values:
    """A repeatable number in [0, 1) for each integer cell."""
    h = (i.astype(np.int64) * 374761393 + j.astype(np.int64) * 668265263) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFF).astype(np.float32) / np.float32(65536)


def _mix(a: Colour, b: Colour, weight: np.ndarray) -> Colour:
    return a + (b - a) * weight.astype(np.float32)[:, None]


def _texture(number: int) -> Callable[[Callable[..., Colour]], Callable[..., Colour]]:
    def register(function: Callable[..., Colour]) -> Callable[..., Colour]:
        _SHADERS[number] = function
        return function

    return register


(PLAIN, ASPHALT, PAVING, BRICK, WINDOWS, GRASS, LEAVES, STRIPES, COBBLES, PLANKS, CLOTH, CHEQUER, HATCH, BARK, DIRT,
 SHOPFRONT, PLASTER, ROOF) = range(18)  # fmt: skip


@_texture(PLAIN)
def _plain(uv: np.ndarray, scale: Values, colour: Colour, accent: Colour, fade: Values) -> Colour:
    return colour * (1 + 0.05 * cloud(uv, 0.03))[:, None]


@_texture(ASPHALT)
def _asphalt(uv: np.ndarray, scale: Values, colour: Colour, accent: Colour, fade: Values) -> Colour:
    patch = cloud(uv, 0.12)
    shade = 1 + 0.16 * patch + 0.30 * fade * grain(uv, 0.02)
    crack = (np.abs(cloud(uv + 37, 0.05)) < 0.012) & (patch > 0)
    return colour * (shade * np.where(crack, 1 - 0.5 * fade, 1))[:, None]


@_texture(PAVING)
def _paving(uv: np.ndarray, scale: Values, colour: Colour, accent: Colour, fade: Values) -> Colour:
    row = np.floor(uv[:, 1] / scale)
    across = uv[:, 0] / scale + 0.5 * (row % 2)
    joint = (_edge(across) < 0.05) | (_edge(uv[:, 1] / scale) < 0.05)
    tone = 1 + 0.2 * (_hash(np.floor(across).astype(int), row.astype(int)) - 0.5) * (0.3 + 0.7 * fade)
    slab = colour * (tone + 0.08 * cloud(uv, 0.05))[:, None]
    return _mix(slab, accent, joint * (0.25 + 0.75 * fade))


@_texture(BRICK)
def _brick(uv: np.ndarray, scale: Values, colour: Colour, accent: Colour, fade: Values) -> Colour:
    row = np.floor(uv[:, 1] / (0.28 * scale))
    across = uv[:, 0] / scale + 0.5 * (row % 2)
    joint = (_edge(across) < 0.06) | (_edge(uv[:, 1] / (0.28 * scale)) < 0.14)
    tone = 1 + 0.45 * (_hash(np.floor(across).astype(int), row.astype(int)) - 0.5) * fade
    return _mix(colour * (tone + 0.06 * cloud(uv, 0.06))[:, None], accent, joint * fade * 0.8)


@_texture(WINDOWS)
def _windows(uv: np.ndarray, scale: Values, colour: Colour, accent: Colour, fade: Values) -> Colour:
    """A facade: one window a cell, ``scale`` wide and 3 m high, with frame and, for some, a blind or lit room."""
    i, j = np.floor(uv[:, 0] / scale).astype(int), np.floor(uv[:, 1] / 3.0).astype(int)
    x, y = uv[:, 0] / scale - i, uv[:, 1] / 3.0 - j
    kind = _hash(i, j)
    glass = (np.abs(x - 0.5) < 0.30) & (y > 0.30) & (y < 0.80)
    pane = (np.abs(x - 0.5) < 0.26) & (y > 0.325) & (y < 0.775) & (np.abs(x - 0.5) > 0.018)
    wall = colour * (1 + 0.10 * cloud(uv, 0.08) + 0.05 * fade * grain(uv, 0.05))[:, None]
    tint = np.array([0.10, 0.13, 0.17], np.float32) * (0.5 + 1.5 * kind + 0.9 * np.clip(y - 0.3, 0, 1))[:, None]
    tint = np.where((kind > 0.8)[:, None] & (y > 0.5)[:, None], np.array([0.62, 0.58, 0.5], np.float32), tint)
    return np.where(pane[:, None], tint, np.where(glass[:, None], accent, wall)).astype(np.float32)


@_texture(SHOPFRONT)
def _shopfront(uv: np.ndarray, scale: Values, colour: Colour, accent: Colour, fade: Values) -> Colour:
    i = np.floor(uv[:, 0] / scale).astype(int)
    x = uv[:, 0] / scale - i
    pane = (np.abs(x - 0.5) < 0.44) & (uv[:, 1] > 0.5) & (uv[:, 1] < 2.6)
    sign = (uv[:, 1] >= 2.75) & (uv[:, 1] < 3.4)
    goods = cloud(uv * np.array([1, 1.7], np.float32), 0.04)[:, None] * np.array([0.14, 0.10, 0.07], np.float32)
    board = np.stack([_hash(i, i * 0 + k) for k in range(3)], axis=1) * 0.7 + 0.1
    letters = (grain(uv, 0.22) > 0.25) & (np.abs(uv[:, 1] - 3.08) < 0.18)
    board = np.where(letters[:, None], 0.85, board)
    return np.where(sign[:, None], board, np.where(pane[:, None], 0.16 + goods, colour)).astype(np.float32)


@_texture(PLASTER)
def _plaster(uv: np.ndarray, scale: Values, colour: Colour, accent: Colour, fade: Values) -> Colour:
    stain = np.clip(cloud(uv * np.array([1, 0.3], np.float32), 0.1), 0, 1)
    return colour * (1 - 0.25 * stain + 0.08 * fade * grain(uv, 0.03))[:, None]


@_texture(GRASS)
def _grass(uv: np.ndarray, scale: Values, colour: Colour, accent: Colour, fade: Values) -> Colour:
    patch = np.clip(0.5 + 0.9 * cloud(uv, 0.09), 0, 1)
    blade = 1 + (0.15 + 0.45 * fade) * grain(uv, 0.035) + 0.25 * grain(uv, 0.16)
    return _mix(colour, accent, patch) * np.clip(blade, 0.2, 2)[:, None]


@_texture(DIRT)
def _dirt(uv: np.ndarray, scale: Values, colour: Colour, accent: Colour, fade: Values) -> Colour:
    patch = np.clip(0.5 + 0.8 * cloud(uv, 0.06), 0, 1)
    stone = (grain(uv, 0.07) > 0.75) * fade * 0.5
    return _mix(colour, accent, patch) * (1 + 0.15 * grain(uv, 0.12) + stone)[:, None]


@_texture(LEAVES)
def _leaves(uv: np.ndarray, scale: Values, colour: Colour, accent: Colour, fade: Values) -> Colour:
    leaf = grain(uv, 0.06)
    return _mix(colour, accent, np.clip(0.5 + 0.7 * cloud(uv, 0.05), 0, 1)) * (1 + 0.45 * leaf)[:, None]


@_texture(STRIPES)
def _stripes(uv: np.ndarray, scale: Values, colour: Colour, accent: Colour, fade: Values) -> Colour:
    """Slanted warning stripes, ``scale`` metres a period."""
    return _mix(colour, accent, ((uv[:, 0] + uv[:, 1]) / scale) % 1 < 0.5)


@_texture(HATCH)
def _hatch(uv: np.ndarray, scale: Values, colour: Colour, accent: Colour, fade: Values) -> Colour:
    line = ((uv[:, 0] + uv[:, 1]) / scale) % 1 < 0.3
    return _mix(colour * (1 + 0.12 * cloud(uv, 0.08) + 0.1 * fade * grain(uv, 0.03))[:, None], accent, line * 0.9)


@_texture(COBBLES)
def _cobbles(uv: np.ndarray, scale: Values, colour: Colour, accent: Colour, fade: Values) -> Colour:
    row = np.floor(uv[:, 1] / scale)
    across = uv[:, 0] / scale + 0.5 * (row % 2)
    tone = 1 + 0.55 * (_hash(np.floor(across).astype(int), row.astype(int)) - 0.5) * (0.25 + 0.75 * fade)
    joint = (_edge(across) < 0.12) | (_edge(uv[:, 1] / scale) < 0.12)
    return _mix(colour * tone[:, None], accent, joint * (0.2 + 0.8 * fade))


@_texture(PLANKS)
def _planks(uv: np.ndarray, scale: Values, colour: Colour, accent: Colour, fade: Values) -> Colour:
    across = uv[:, 0] / scale
    tone = 1 + 0.3 * (_hash(np.floor(across).astype(int), np.zeros(len(uv), int)) - 0.5)
    return _mix(
        colour * (tone + 0.12 * cloud(uv * np.array([4, 0.5], np.float32), 0.03))[:, None], accent, _edge(across) < 0.08
    )


@_texture(CLOTH)
def _cloth(uv: np.ndarray, scale: Values, colour: Colour, accent: Colour, fade: Values) -> Colour:
    """Clothes: above or below ``scale`` metres nothing changes, but folds darken and some bands show the accent."""
    band = (np.floor(uv[:, 1] / scale) % 3 == 0) * 0.35
    return _mix(colour, accent, band) * (1 + 0.18 * cloud(uv, 0.015))[:, None]


@_texture(CHEQUER)
def _chequer(uv: np.ndarray, scale: Values, colour: Colour, accent: Colour, fade: Values) -> Colour:
    return _mix(colour, accent, (np.floor(uv[:, 0] / scale) + np.floor(uv[:, 1] / scale)) % 2)


@_texture(BARK)
def _bark(uv: np.ndarray, scale: Values, colour: Colour, accent: Colour, fade: Values) -> Colour:
    return _mix(colour, accent, np.clip(0.5 + cloud(uv * np.array([5, 1], np.float32), 0.03), 0, 1))


@_texture(ROOF)
def _roof(uv: np.ndarray, scale: Values, colour: Colour, accent: Colour, fade: Values) -> Colour:
    line = _edge(uv[:, 1] / (scale * 0.4)) < 0.12
    return _mix(colour * (1 + 0.2 * cloud(uv, 0.08))[:, None], accent, line * (0.3 + 0.7 * fade))


def _edge(x: np.ndarray) -> np.ndarray:
    """Distance of x to the next integer."""
    return np.abs(x - np.round(x))


def albedo(uv: Float32[np.ndarray, "n 2"], surface: Float32[np.ndarray, "n c"], distance: Values) -> Colour:
    """Colour of each hit: its surface's texture at ``uv``, fine detail faded with the distance (m) of the eye."""
    out = np.empty((len(uv), 3), np.float32)
    fade = np.exp(-distance / 25).astype(np.float32)
    kinds = surface[:, TEXTURE].astype(np.int8)
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        part = surface[rows]
        out[rows] = _SHADERS[int(kind)](uv[rows], part[:, SCALE], part[:, COLOUR], part[:, ACCENT], fade[rows])
    return np.clip(out, 0, 1)
