"""Colours for class names: fixed ones for the words of driving and indoor scenes, well-spread ones for any others."""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32, UInt8

from ov3d_perception.language.words import find_word, normalise_word

UNLABELLED_COLOUR = (92, 97, 107)

# Chosen for a dark background and for points over photographs: surfaces muted, things bright.
_COLOURS: dict[str, tuple[int, int, int]] = {
    "road": (142, 124, 195),
    "driveable surface": (142, 124, 195),
    "drivable surface": (142, 124, 195),
    "street": (142, 124, 195),
    "parking": (178, 150, 214),
    "lane marking": (196, 184, 232),
    "sidewalk": (226, 118, 188),
    "pavement": (226, 118, 188),
    "other flat": (176, 84, 138),
    "curb": (176, 84, 138),
    "other ground": (176, 84, 138),
    "ground": (168, 140, 108),
    "terrain": (164, 196, 92),
    "grass": (164, 196, 92),
    "vegetation": (64, 168, 90),
    "tree": (64, 168, 90),
    "bush": (96, 190, 108),
    "trunk": (150, 104, 62),
    "flower": (240, 150, 170),
    "building": (226, 196, 148),
    "manmade": (226, 196, 148),
    "house": (226, 196, 148),
    "wall": (204, 176, 140),
    "fence": (200, 134, 84),
    "pole": (255, 226, 150),
    "pole sign": (255, 226, 120),
    "sign": (255, 216, 70),
    "traffic sign": (255, 216, 70),
    "traffic light": (255, 190, 60),
    "barrier": (255, 148, 96),
    "car": (82, 156, 255),
    "vehicle": (82, 156, 255),
    "truck": (60, 206, 235),
    "bus": (84, 236, 204),
    "trailer": (120, 170, 205),
    "construction vehicle": (255, 178, 32),
    "excavator": (255, 178, 32),
    "other vehicle": (108, 200, 220),
    "motorcycle": (214, 92, 255),
    "bicycle": (255, 104, 222),
    "person": (255, 72, 84),
    "pedestrian": (255, 72, 84),
    "bicyclist": (255, 120, 120),
    "motorcyclist": (255, 110, 170),
    "traffic cone": (255, 112, 32),
    "cone": (255, 112, 32),
    "floor": (150, 140, 130),
    "ceiling": (120, 130, 150),
    "chair": (255, 160, 70),
    "table": (210, 130, 80),
    "bed": (110, 160, 255),
    "sofa": (200, 110, 240),
    "door": (160, 220, 120),
    "window": (120, 220, 255),
}


def colour(name: str) -> tuple[int, int, int]:
    """RGB of a class name or word, the same on every machine; case, "_" and "-" do not matter."""
    key = find_word(name, _COLOURS)
    if key is not None:
        return _COLOURS[key]
    key = normalise_word(name)
    digest = hashlib.sha256(key.encode()).digest()
    hue, lightness = int.from_bytes(digest[:4], "big") / 2**32, 0.56 + 0.16 * digest[4] / 255
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.72)
    return round(255 * red), round(255 * green), round(255 * blue)


def colours(names: Sequence[str]) -> UInt8[np.ndarray, "c 3"]:
    """RGB per class."""
    return np.array([colour(name) for name in names], np.uint8).reshape(-1, 3)


def colourise(labels: Int32[np.ndarray, " n"], names: Sequence[str]) -> UInt8[np.ndarray, "n 3"]:
    """RGB per point; a label outside 0..len(names)-1, such as UNLABELLED, is grey."""
    table = np.vstack([colours(names), np.array([UNLABELLED_COLOUR], np.uint8)])
    known = (labels >= 0) & (labels < len(names))
    return table[np.where(known, labels, len(names))]
