"""Occupied voxels as a graph: which of them touch, and the normal of the surface through each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float64, Int32, Int64

from ov3d_perception.geometry.voxels import BITS

MOMENTS = 10
"""Sums over a set of points: their number, x, y, z, xx, xy, xz, yy, yz, zz."""
_FLAT = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Adjacency:
    """The voxels that touch voxel v by a face, an edge or a corner: ``neighbour[start[v]:start[v + 1]]``."""

    start: Int32[np.ndarray, " n_and_1"]
    neighbour: Int32[np.ndarray, " e"]

    def __len__(self) -> int:
        return len(self.start) - 1

    @cached_property
    def matrix(self) -> scipy.sparse.csr_array:
        """1 where two voxels touch."""
        return scipy.sparse.csr_array((np.ones(len(self.neighbour)), self.neighbour, self.start), (len(self),) * 2)

    @cached_property
    def row(self) -> Int32[np.ndarray, " e"]:
        """The voxel v of each entry of ``neighbour``."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.start))

    def without(self, cut: Bool[np.ndarray, " e"]) -> Adjacency:
        """The graph without some of the entries."""
        start = np.concatenate([[0], np.cumsum(~cut)])[self.start]
        return Adjacency(start.astype(np.int32), self.neighbour[~cut])


def adjacency_of(keys: Int64[np.ndarray, " n"]) -> Adjacency:
    """The graph of voxels given by their keys (:func:`~.voxels.pack`), ascending, each once.

    A voxel's neighbours in one column of the grid have consecutive keys: of the nine columns around a voxel, its own
    and the four that come after it are looked up, one search for each.
    """
    above = np.flatnonzero(np.diff(keys) == 1)
    left, right = [above], [above + 1]
    for dx, dy in ((0, 1), (1, -1), (1, 0), (1, 1)):
        own, middle = np.arange(len(keys)), keys + (dx << 2 * BITS) + (dy << BITS)
        other = np.searchsorted(keys, middle - 1)
        while len(own):
            there = np.flatnonzero(other < len(keys))
            there = there[keys[other[there]] <= middle[own[there]] + 1]
            own, other = own[there], other[there]
            left.append(own)
            right.append(other)
            other = other + 1
    first, second = np.concatenate(left).astype(np.int32), np.concatenate(right).astype(np.int32)
    rows, columns = np.concatenate([first, second]), np.concatenate([second, first])
    matrix = scipy.sparse.csr_array((np.ones(len(rows), np.int8), (rows, columns)), (len(keys),) * 2)
    return Adjacency(matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32))


def normals(moments: Float64[np.ndarray, "n 10"], adjacency: Adjacency, rings: int = 2) -> Float64[np.ndarray, "n 3"]:
    """Normal of the plane through the points around each voxel, of unit norm and of any sign; up where there is none.

    moments: of each voxel's points. rings: how far around, in voxels; points nearer to the voxel count more.
    """
    for _ in range(rings):
        moments = moments + adjacency.matrix @ moments
    count, x, y, z, *products = np.ascontiguousarray(moments.T)
    mean = np.stack([x, y, z]) / count
    xx, xy, xz, yy, yz, zz = (
        product / count - mean[i] * mean[j]
        for product, (i, j) in zip(products, ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)), strict=True)
    )
    least, spread = _least_eigenvalue(xx, xy, xz, yy, yz, zz)
    xx, yy, zz = xx - least, yy - least, zz - least
    crosses = np.stack(  # of two rows of C - least * I each: along the eigenvector
        [
            np.stack([xy * yz - xz * yy, xz * xy - xx * yz, xx * yy - xy * xy]),
            np.stack([xy * zz - xz * yz, xz * xz - xx * zz, xx * yz - xy * xz]),
            np.stack([yy * zz - yz * yz, yz * xz - xy * zz, xy * yz - yy * xz]),
        ]
    )
    length = np.sqrt((crosses**2).sum(1))
    best = length.argmax(0)
    every = np.arange(len(best))
    longest = length[best, every]
    known = longest > 1e-6 * spread**2  # else the points lie on a line
    return np.where(known, crosses[best, :, every].T / np.where(known, longest, 1.0), _FLAT[:, None]).T


def _least_eigenvalue(
    xx: Float64[np.ndarray, " n"],
    xy: Float64[np.ndarray, " n"],
    xz: Float64[np.ndarray, " n"],
    yy: Float64[np.ndarray, " n"],
    yz: Float64[np.ndarray, " n"],
    zz: Float64[np.ndarray, " n"],
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """The least eigenvalue of symmetric 3x3 matrices (Smith's formula), and how far apart all three are."""
    mean = (xx + yy + zz) / 3
    a, b, c = xx - mean, yy - mean, zz - mean
    spread = np.sqrt((a * a + b * b + c * c + 2 * (xy * xy + xz * xz + yz * yz)) / 6)
    determinant = a * (b * c - yz * yz) - xy * (xy * c - yz * xz) + xz * (xy * yz - b * xz)
    cosine = determinant / (2 * np.maximum(spread, 1e-100) ** 3)
    return mean + 2 * spread * np.cos(np.arccos(cosine.clip(-1, 1)) / 3 + 2 * np.pi / 3), spread
