"""The ground under one cloud, and how high its points stand above it.

The lowest point of each cell is ground unless it stands out of what surrounds it: a morphological opening with growing
windows and thresholds (progressive morphological filter, Zhang et al. 2003). Cells without ground take their nearest
neighbour's.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int64
from scipy import ndimage

CELL = 0.5  # metres; several of a LiDAR's rings cross it near the robot
WINDOWS = (1.0, 2.0, 4.0)  # half widths in metres; the last is wider than half a lorry
STEP, CAMBER = 0.1, 0.05  # what stands out by more than STEP + CAMBER * half width is none: a road is curved, too


def height_above_ground(
    xyz: Float32[np.ndarray, "n 3"], may_be_ground: Bool[np.ndarray, " n"], reach: float
) -> Float32[np.ndarray, " n"]:
    """Height in metres of each point above the ground; NaN beyond ``reach`` (in x or y), and where there is no ground.

    xyz: in a frame with z up and the sensor near the origin, finite. may_be_ground: the points that it is fitted to;
    a thing that is surely none, left out, cannot be taken for ground where its own is hidden.
    """
    width = 2 * int(np.ceil(reach / CELL))
    index = np.floor(xyz[:, :2] / CELL).astype(np.int64) + width // 2
    inside = (np.abs(xyz[:, :2]) < reach).all(axis=1)
    cells = index[:, 1] * width + index[:, 0]
    used = inside & may_be_ground
    height = np.full(len(xyz), np.nan, np.float32)
    if not used.any():
        return height
    ground = lowest_in_cells(cells[used], xyz[used, 2], (width, width))
    for half_width in WINDOWS:
        low = opened(ground, round(half_width / CELL))
        ground[ground - low > STEP + CAMBER * half_width] = np.inf
    unknown = np.isinf(ground)
    nearest = ndimage.distance_transform_edt(unknown, return_distances=False, return_indices=True)
    height[inside] = xyz[inside, 2] - ground[tuple(nearest)].reshape(-1)[cells[inside]]
    return height


def lowest_in_cells(
    cells: Int64[np.ndarray, " n"], z: Float32[np.ndarray, " n"], shape: tuple[int, int]
) -> Float32[np.ndarray, "h w"]:
    """The least z in each cell of the flattened grid, infinite where there is none."""
    lowest = np.full(shape[0] * shape[1], np.inf, np.float32)
    np.minimum.at(lowest, cells, z)
    return lowest.reshape(shape)


def opened(lowest: Float32[np.ndarray, "h w"], reach: int) -> Float32[np.ndarray, "h w"]:
    """Minimum, then maximum over squares of 2 * reach + 1 cells, of the cells that have a height; NaN far from all."""
    kernel = np.ones((2 * reach + 1,) * 2, np.uint8)
    eroded = cv2.erode(lowest, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=float("inf"))
    eroded[np.isinf(eroded)] = -np.inf
    result = cv2.dilate(eroded, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=-float("inf"))
    result[np.isinf(result)] = np.nan
    return np.asarray(result, np.float32)
