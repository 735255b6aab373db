"""Costs and ground grids in colour."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int8, UInt8
from PIL import Image

from ov3d_perception.viz.bev import BACKGROUND, Annotations, Canvas, bird_eye
from ov3d_perception.viz.canvas import Entry, legend

FREE_COLOUR = (58, 92, 74)
_CHEAP, _DEAR = (246, 228, 100), (214, 36, 74)


def cost_colour(cost: int) -> tuple[int, int, int]:
    """Dark for unknown (-1), green for free (0), then from yellow (1) to red (100)."""
    if cost < 0:
        return BACKGROUND
    if cost == 0:
        return FREE_COLOUR
    share = (cost - 1) / 99
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(_CHEAP, _DEAR, strict=True))
    return red, green, blue


def grid_picture(values: Int8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """A grid as nav_msgs/OccupancyGrid orders it (the first row has the least y), a pixel a cell, y up."""
    table = np.array([cost_colour(cost) for cost in range(-1, 101)], np.uint8)
    return np.asarray(table[values[::-1].astype(np.int64) + 1])


def draw_grid(
    values: Int8[np.ndarray, "h w"],
    origin: tuple[float, float],
    resolution: float,
    canvas: Canvas,
    notes: Annotations,
    meaning: Mapping[str, int],
) -> UInt8[np.ndarray, "height width 3"]:
    """A grid from above on a canvas, with a legend of what its values mean. origin, resolution: metres."""
    rows, columns = np.nonzero(values >= 0)
    xy = np.stack([columns + 0.5, rows + 0.5], 1) * resolution + origin
    xyz = np.column_stack([xy, np.zeros(len(xy))]).astype(np.float32)
    table = np.array([cost_colour(cost) for cost in range(101)], np.uint8)
    picture = bird_eye(
        xyz,
        np.zeros(len(xyz), np.int32),
        (),
        canvas=canvas,
        point_size=1.3 * resolution,  # discs that leave no holes between the cells' corners
        rgb=table[values[rows, columns]],
        notes=notes,
    )
    image = Image.fromarray(picture)
    entries: list[Entry] = [(name, cost_colour(cost)) for name, cost in meaning.items()]
    legend(image, entries, max(12, canvas.height // 48))
    return np.asarray(image)
