"""Groups of voxels that make one thing, and the upright box around each."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, Int32, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ov3d_perception.geometry.boxes import Box
from ov3d_perception.geometry.voxels import pack


def cluster(centres: Float32[np.ndarray, "n 3"], gap: float, vertical_gap: float) -> Int64[np.ndarray, " n"]:
    """Number of the group (0, 1, ...) of each voxel centre.

    Centres are put on a grid of cells gap x gap x vertical_gap metres, and cells that touch (26 neighbours) belong
    together: centres nearer than the gap always do, centres farther apart than two gaps never do by themselves. The
    vertical gap is wider, as a LiDAR's beams lie far apart above each other.
    """
    if not len(centres):
        return np.empty(0, np.int64)
    cells = np.floor(centres.astype(np.float64) / [gap, gap, vertical_gap]).astype(np.int64)
    packed = pack(cells)
    order = np.argsort(packed)
    packed = packed[order]
    first = np.diff(packed, prepend=-1) > 0
    keys = packed[first]
    left, right = _touching(keys)
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(len(keys), len(keys)))
    _, group = connected_components(graph, directed=False)
    result = np.empty(len(centres), np.int64)
    result[order] = group[np.cumsum(first) - 1]
    return result


def members_of(group: Int64[np.ndarray, " n"], least: int) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " g"]]:
    """The members of the groups that have ``least`` or more, one group after the other, and where each begins."""
    if not len(group):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    rows = np.flatnonzero((np.bincount(group) >= least)[group])
    rows = rows[np.argsort(group[rows], kind="stable")]
    return rows, np.flatnonzero(np.diff(group[rows], prepend=-1))


def box_around(centres: Float32[np.ndarray, "n 3"], voxel_size: float) -> Box:
    """The upright box of least footprint that holds the voxels (not only their centres), longest edge first.

    Yaw in (-pi/2, pi/2], about z; the footprint is the least-area rectangle around the centres, grown by half a voxel
    on each side.
    """
    origin = centres[0].astype(np.float64)
    (x, y), (length, width), degrees = cv2.minAreaRect((centres[:, :2] - origin[:2]).astype(np.float32))
    yaw = np.radians(degrees)
    if width > length:
        length, width, yaw = width, length, yaw + np.pi / 2
    yaw = np.pi / 2 - (np.pi / 2 - yaw) % np.pi
    z = np.ascontiguousarray(centres[:, 2])
    low, high = z.min(), z.max()
    centre = np.array([origin[0] + x, origin[1] + y, (float(low) + float(high)) / 2])
    return Box(centre, np.array([length, width, float(high - low)]) + voxel_size, float(yaw))


def _touching(keys: Int64[np.ndarray, " n"]) -> tuple[Int32[np.ndarray, " m"], Int32[np.ndarray, " m"]]:
    """Enough pairs of touching cells to connect all that touch. Keys ascend; cells above each other are neighbours
    there.

    Of the three cells one above the other beside a cell, those after a gap and the first are enough: the others follow
    one that is connected already.
    """
    zero = pack(np.zeros((1, 3), np.int64))
    steps = pack(np.array([[0, 1, -1], [1, -1, -1], [1, 0, -1], [1, 1, -1]], np.int64)) - zero
    stacked = np.flatnonzero(np.diff(keys) == 1)
    left, right = [stacked], [stacked + 1]
    for step in steps:
        lowest = keys + step
        at = np.searchsorted(keys, lowest)
        for nth in (0, 1):
            beside = np.minimum(at + nth, len(keys) - 1)
            above = keys[beside] - lowest
            found = np.flatnonzero((above >= 0) & (above <= 2))
            left.append(found)
            right.append(beside[found])
    return np.concatenate(left).astype(np.int32), np.concatenate(right).astype(np.int32)
