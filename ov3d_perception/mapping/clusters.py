"""Clusters of voxels, and the upright box around each."""

from __future__ import annotations

import math

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ov3d_perception.geometry.boxes import Box
from ov3d_perception.geometry.voxels import BITS, HALF, MASK
from ov3d_perception.mapping.sorting import argsort_counting


def cluster(centres: Float32[np.ndarray, "n 3"], gap: float, vertical_gap: float) -> Int64[np.ndarray, " n"]:
    """Number of the group (0, 1, ...) of each voxel centre.

    Centres fall into cells of gap x gap x vertical_gap metres, and cells that touch (26 neighbours) are one group:
    centres nearer than the gap always are, centres farther apart than two gaps only through others between them. The
    vertical gap is wider, since a LiDAR's beams are far apart above each other.
    """
    if not len(centres):
        return np.empty(0, np.int64)
    packed, width, height = _packed_cells(centres, gap, vertical_gap)
    order = argsort_counting(packed)
    packed = packed.take(order)
    first = np.flatnonzero(np.diff(packed, prepend=-9) > 1)  # cells one above the other are one column from the start
    last = np.append(first[1:], len(packed)) - 1
    edges = _touching(packed[first], packed[last], width, height)
    graph = coo_array((np.ones(len(edges[0])), edges), shape=(len(first), len(first)))  # of float64, or it is copied
    _, group = connected_components(graph, directed=False)
    result = np.empty(len(centres), np.int64)
    result[order] = np.repeat(group, last + 1 - first)
    return result


def _packed_cells(
    centres: Float32[np.ndarray, "n 3"], gap: float, vertical_gap: float
) -> tuple[Int64[np.ndarray, " n"], int, int]:
    """Each centre's cell as one number (few bits: quick to sort), and how many numbers y and z have in it.

    The grid has a margin, so that neighbours do not wrap.
    """
    cells = []
    for axis, edge in zip(centres.T, (gap, gap, vertical_gap), strict=True):
        cell = np.floor(np.ascontiguousarray(axis, np.float64) / edge)
        cells.append(cell - cell.min())
    x, y, z = cells
    width, height = int(y.max()) + 3, int(z.max()) + 3
    return ((x * width + y) * height + z).astype(np.int64), width, height


def members_of(
    group: Int64[np.ndarray, " n"], chosen: Bool[np.ndarray, " k"]
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " g"]]:
    """The members of the chosen groups, one group after the other, and where each begins."""
    rows = np.flatnonzero(chosen.take(group))
    numbers = group.take(rows)
    order = argsort_counting(numbers)
    return rows.take(order), np.flatnonzero(np.diff(numbers.take(order), prepend=-1))


def box_around(centres: Float32[np.ndarray, "n 3"], voxel_size: float) -> Box:
    """The upright box of least footprint that holds the voxels (not only their centres), longest edge first.

    Yaw in (-pi/2, pi/2], about z; the footprint is the least-area rectangle around the centres, grown by half a voxel
    on each side.
    """
    origin = centres[0].astype(np.float64)
    z = np.ascontiguousarray(centres[:, 2])
    flat = (centres[:, :2] - origin[:2]).astype(np.float32)
    return _box(flat, origin[:2], float(z.min()), float(z.max()), voxel_size)


def boxes_around(keys: Int64[np.ndarray, " n"], first: Int64[np.ndarray, " g"], voxel_size: float) -> list[Box]:
    """:func:`box_around` of each group of voxels: the keys from ``first`` to the next.

    Of each line of voxels along y, only the two ends can be corners of the outline.
    """
    x, y, z = keys >> (2 * BITS), (keys >> BITS) & MASK, keys & MASK
    ends = [np.minimum.reduceat(axis, first) for axis in (x, y, z)]
    x0, y0, low = ends
    high, width = np.maximum.reduceat(z, first), np.maximum.reduceat(x, first) - x0 + 1
    start = np.cumsum(width) - width
    line = x + np.repeat(start - x0, np.diff(first, append=len(keys)))
    least, most = np.full(width.sum(), MASK), np.full(width.sum(), -1)
    np.minimum.at(least, line, y)
    np.maximum.at(most, line, y)
    column = np.arange(len(least)) - np.repeat(start, width)
    y0 = np.repeat(y0, width)
    outline = np.stack([column, least - y0, column, most - y0], 1).astype(np.float32) * np.float32(voxel_size)
    outline[most < 0] = outline[np.repeat(start, width)[most < 0]]  # a line without a voxel
    origin = (np.stack(ends, 1) + 0.5 - HALF) * voxel_size
    tall = ((high - low) * voxel_size).tolist()
    return [
        _box(part.reshape(-1, 2), place[:2], float(place[2]), float(place[2]) + height, voxel_size)
        for part, place, height in zip(np.split(outline, start[1:]), origin, tall, strict=True)
    ]


def _box(
    flat: Float32[np.ndarray, "n 2"], origin: Float64[np.ndarray, " 2"], low: float, high: float, voxel_size: float
) -> Box:
    """The box around points relative to ``origin``, between two heights."""
    (x, y), (length, width), degrees = cv2.minAreaRect(flat)
    yaw = math.radians(degrees)
    if width > length:
        length, width, yaw = width, length, yaw + math.pi / 2
    yaw = math.pi / 2 - (math.pi / 2 - yaw) % math.pi
    centre = np.array([origin[0] + x, origin[1] + y, (low + high) / 2])
    return Box(centre, np.array([length, width, high - low]) + voxel_size, yaw)


def _touching(
    low: Int64[np.ndarray, " n"], high: Int64[np.ndarray, " n"], width: int, height: int
) -> tuple[Int32[np.ndarray, " m"], Int32[np.ndarray, " m"]]:
    """Pairs of columns of cells that touch. They ascend from ``low`` to ``high``: x, y (of ``width``), z (of
    ``height``)."""

    def beside(step: int) -> tuple[Int32[np.ndarray, " m"], Int32[np.ndarray, " m"]]:
        """Pairs with the columns at the place ``step`` further on."""
        other = np.searchsorted(high, low + (step - 1))  # the lowest that reaches as high
        own, most = np.arange(len(low)), high + (step + 1)
        left, right = [], []
        while len(own):
            there = other < len(low)
            there[there] = low[other[there]] <= most[own[there]]
            own, other = own[there], other[there]
            left.append(own)
            right.append(other)
            other = other + 1
        return np.concatenate(left).astype(np.int32), np.concatenate(right).astype(np.int32)

    after = (1, width - 1, width, width + 1)  # the four of the eight neighbours that come after a place
    pairs = [beside(place * height) for place in after]
    left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return left, right
