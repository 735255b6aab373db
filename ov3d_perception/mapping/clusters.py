"""Groups of voxels that make one thing, and the upright box around each."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, Int64
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
    keys, cell_of = np.unique(pack(cells), return_inverse=True)
    neighbours = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    offsets = neighbours[14:]  # number 13 is the cell itself, and each pair is needed from one side only
    steps = pack(offsets) - pack(np.zeros((1, 3), np.int64))
    pairs = [_pairs(keys, step) for step in steps]
    left, right = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(len(left), bool), (left, right)), shape=(len(keys), len(keys)))
    _, group = connected_components(graph, directed=False)
    return group[cell_of.reshape(-1)].astype(np.int64)


def box_around(centres: Float32[np.ndarray, "n 3"], voxel_size: float) -> Box:
    """The upright box of least footprint that holds the voxels (not only their centres), longest edge first.

    Yaw in (-pi/2, pi/2], about z; the footprint is the least-area rectangle around the centres, grown by half a voxel
    on each side.
    """
    origin = centres.mean(0, dtype=np.float64)
    (x, y), (length, width), degrees = cv2.minAreaRect((centres[:, :2] - origin[:2]).astype(np.float32))
    yaw = np.radians(degrees)
    if width > length:
        length, width, yaw = width, length, yaw + np.pi / 2
    yaw = np.pi / 2 - (np.pi / 2 - yaw) % np.pi
    low, high = centres[:, 2].min(), centres[:, 2].max()
    centre = np.array([origin[0] + x, origin[1] + y, (float(low) + float(high)) / 2])
    return Box(centre, np.array([length, width, float(high - low)]) + voxel_size, float(yaw))


def _pairs(keys: Int64[np.ndarray, " n"], step: int) -> Int64[np.ndarray, "2 m"]:
    """Indices of keys whose key + step is a key, too. Keys ascend."""
    at = np.minimum(np.searchsorted(keys, keys + step), len(keys) - 1)
    found = np.flatnonzero(keys[at] == keys + step)
    return np.stack([found, at[found]])
