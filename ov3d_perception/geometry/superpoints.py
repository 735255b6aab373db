"""Superpoints by VCCS (Papon et al., "Voxel Cloud Connectivity Segmentation", CVPR 2013).

Voxels are clustered around seeds by a distance of space, colour and normal, and a cluster grows only from voxel to
touching voxel: no superpoint crosses a gap. Two things differ from the paper.

* A LiDAR's points lie the farther apart the farther away they are. Beyond ``near`` metres the cloud is compressed
  towards the sensor before it is voxelised: a voxel at range r is r / near times as long. Normals are those of the true
  points.
* Every point gets a superpoint. What no seed reaches (the paper leaves it out) is taken by a neighbour, or is one of
  its own where it touches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int32, Int64, Real
from scipy.sparse.csgraph import connected_components

from ov3d_perception.geometry.growth import COLUMNS, PLAIN, grow
from ov3d_perception.geometry.voxel_graph import Adjacency, adjacency_of, normals
from ov3d_perception.geometry.voxels import voxel_keys


@dataclass(frozen=True)
class Vccs:
    """voxel, seed: edges of the voxels and of the grid of seeds, R_voxel and R_seed, in metres.

    colour, spatial, normal: weights w_c, w_s, w_n of the distance D.
    near: metres beyond which voxels and seeds grow with range; None: they never do (RGB-D, maps).
    isolated: a seed is left out where its cell holds a smaller share of the voxels of a plane through the cell.
    iterations: times that the clusters' centres are found anew.
    """

    voxel: float = 0.1
    seed: float = 0.5
    colour: float = 0.2
    spatial: float = 0.4
    normal: float = 1.0
    near: float | None = 5.0
    isolated: float = 0.2
    iterations: int = 2


def superpoints(
    xyz: Float[np.ndarray, "n 3"], colour: Float[np.ndarray, "n c"], options: Vccs | None = None
) -> Int64[np.ndarray, " n"]:
    """The superpoint of each point, numbered from 0 without gaps.

    D = sqrt(w_c Dc^2 + w_s Ds^2 / (3 R_seed^2) + w_n Dn^2) of the differences in colour and place to the cluster's
    centre, and Dn = 1 - |n_a . n_b| of the normals.

    Args:
        xyz: metres, finite, the sensor at the origin.
        colour: up to three channels, each in [0, 1]: CIELab / 100 in the paper, a LiDAR's intensity here.
        options: sizes and weights.

    Raises PointCloudError where the cloud reaches beyond the voxel grid.
    """
    options = options or Vccs()
    if len(xyz) == 0:
        return np.zeros(0, np.int64)
    cloud, voxel = _voxelise(xyz, colour, options)
    seeds = _seeds(cloud, options)
    owner = np.full(len(cloud.place), -1, np.int32)
    if len(seeds):
        owner = _cluster(cloud, seeds, options)
    return _components(cloud.adjacency, owner)[voxel]


@dataclass(frozen=True)
class _Voxels:
    """place: mean of the (compressed) points. features: as :func:`~.growth.grow` takes them."""

    place: Float64[np.ndarray, "v 3"]
    features: Float32[np.ndarray, "v 9"]
    adjacency: Adjacency


def compress(xyz: Float[np.ndarray, "n 3"], near: float) -> Float64[np.ndarray, "n 3"]:
    """Points drawn towards the origin: range r becomes near * (1 + log(r / near)) beyond ``near``, and stays below."""
    xyz = xyz.astype(np.float64)
    ratio = np.maximum(np.sqrt(np.einsum("ij,ij->i", xyz, xyz)) / near, 1.0)
    return xyz * ((1 + np.log(ratio)) / ratio)[:, None]


def _voxelise(
    xyz: Float[np.ndarray, "n 3"], colour: Float[np.ndarray, "n c"], options: Vccs
) -> tuple[_Voxels, Int64[np.ndarray, " n"]]:
    """The occupied voxels, and the one of each point."""
    place = xyz.astype(np.float64) if options.near is None else compress(xyz, options.near)
    keys, voxel = np.unique(voxel_keys(place, options.voxel), return_inverse=True)
    voxel = voxel.reshape(-1)
    adjacency = adjacency_of(keys)

    def sums(*columns: Float[np.ndarray, " n"]) -> Float64[np.ndarray, "v c"]:
        return np.stack([np.bincount(voxel, column, len(keys)) for column in columns], axis=1)

    count = np.bincount(voxel)[:, None].astype(np.float64)
    x, y, z = xyz.astype(np.float64).T
    moments = np.hstack([count, sums(x, y, z, x * x, x * y, x * z, y * y, y * z, z * z)])
    normal = normals(moments, adjacency)
    normal[np.einsum("ij,ij->i", normal, moments[:, 1:4]) > 0] *= -1  # towards the sensor, so that they have a mean
    middle = sums(*place.T) / count
    features = np.zeros((len(keys), COLUMNS), np.float32)
    features[:, :3] = middle * (np.sqrt(options.spatial / 3) / options.seed)
    features[:, 3 : 3 + colour.shape[1]] = sums(*colour.T) / count * np.sqrt(options.colour)
    features[:, PLAIN:] = normal
    return _Voxels(middle, features, adjacency), voxel


def _seeds(cloud: _Voxels, options: Vccs) -> Int32[np.ndarray, " k"]:
    """Voxels to start from: of each cell of the seed grid the one nearest its centre, without isolated ones, moved to
    the neighbour of least gradient."""
    cell = np.floor(cloud.place / options.seed)
    gap = ((cloud.place / options.seed - cell - 0.5) ** 2).sum(1)
    number, count = np.unique(voxel_keys(cloud.place, options.seed), return_inverse=True, return_counts=True)[1:]
    seeds = _least(gap, number.reshape(-1), len(count))
    seeds = seeds[count >= options.isolated * (options.seed / options.voxel) ** 2]
    return np.unique(_moved(cloud, seeds, options))


def _moved(cloud: _Voxels, seeds: Int64[np.ndarray, " k"], options: Vccs) -> Int32[np.ndarray, " k"]:
    """Each seed, or the voxel beside it whose colour and normal differ least from those around it."""
    adjacency, own = cloud.adjacency, cloud.features[:, 3:].astype(np.float64)
    own[:, 3:] *= np.sqrt(options.normal)
    squared = np.einsum("ij,ij->i", own, own)
    around = adjacency.matrix @ np.column_stack([own, squared])
    degree = np.diff(adjacency.start)
    gradient = degree * squared - 2 * np.einsum("ij,ij->i", own, around[:, :-1]) + around[:, -1]
    gradient = (gradient / np.maximum(degree, 1)).clip(0)
    many = degree[seeds]
    offset = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
    candidate = np.concatenate([seeds, adjacency.neighbour[np.repeat(adjacency.start[seeds], many) + offset]])
    number = np.concatenate([np.arange(len(seeds)), np.repeat(np.arange(len(seeds)), many)])
    return candidate[_least(gradient[candidate], number, len(seeds))].astype(np.int32)


def _cluster(cloud: _Voxels, seeds: Int32[np.ndarray, " k"], options: Vccs) -> Int32[np.ndarray, " v"]:
    """The cluster of each voxel, -1 where none touches it: k-means with growth instead of the nearest centre."""
    features, centres = cloud.features, cloud.features[seeds]
    levels = int(np.ceil(1.8 * options.seed / options.voxel))
    every = np.arange(len(seeds), dtype=np.int32)
    owner = grow(cloud.adjacency, features, centres, (seeds, every), options.normal, levels)
    for _ in range(options.iterations):
        member = np.flatnonzero(owner >= 0)
        mine = owner[member]
        sums = [np.bincount(mine, features[member, column], len(seeds)) for column in range(COLUMNS)]
        centres = (np.stack(sums, 1) / np.bincount(mine)[:, None]).astype(np.float32)
        centres[:, PLAIN:] /= np.maximum(np.linalg.norm(centres[:, PLAIN:], axis=1), 1e-6)[:, None]
        gap = ((features[member, :3] - centres[mine, :3]) ** 2).sum(1)
        seeds = member[_least(gap, mine, len(seeds))].astype(np.int32)
        owner = grow(cloud.adjacency, features, centres, (seeds, every), options.normal, levels)
    return _filled(cloud, owner, centres, options)


def _filled(
    cloud: _Voxels, owner: Int32[np.ndarray, " v"], centres: Float32[np.ndarray, "k 9"], options: Vccs
) -> Int32[np.ndarray, " v"]:
    """Clusters whole and everywhere: only the largest piece of each stays, and all grow on into what is left."""
    piece = _components(cloud.adjacency, owner)
    size, cluster = np.bincount(piece), np.full(piece.max() + 1, -1, np.int32)
    cluster[piece] = owner
    grown = np.flatnonzero(cluster >= 0)
    largest = grown[_least(size.max() - size[grown], cluster[grown], len(centres))]
    stays = np.zeros(len(size), bool)
    stays[largest] = True
    kept = np.flatnonzero(stays[piece]).astype(np.int32)
    return grow(cloud.adjacency, cloud.features, centres, (kept, owner[kept]), options.normal)


def _components(adjacency: Adjacency, owner: Int32[np.ndarray, " v"]) -> Int64[np.ndarray, " v"]:
    """Numbers of the connected pieces of the clusters; voxels of none (-1) are together where they touch."""
    apart = owner[adjacency.row] != owner[adjacency.neighbour]
    return connected_components(adjacency.without(apart).matrix, directed=False)[1].astype(np.int64)


def _least(value: Real[np.ndarray, " n"], group: Int[np.ndarray, " n"], count: int) -> Int64[np.ndarray, " count"]:
    """Row of the least value of each group, the first of equals. value: not negative; every group has a row."""
    packed = value.astype(np.float32).view(np.int32).astype(np.int64) << 32 | np.arange(len(value))
    least = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(least, group, packed)
    return least & 0xFFFFFFFF
