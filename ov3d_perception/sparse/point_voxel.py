"""Points in the voxels of a sparse tensor: features from points to voxels and back (Tang et al., ECCV 2020, 3.1).

Everything here works on the sorted keys of a coordinate manager, so it is the same for every backend. The two
directions are sparse matrices (:class:`~ov3d_perception.sparse.row_sums.RowSums`), built once for each stride.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import pad

from ov3d_perception.errors import PointCloudError
from ov3d_perception.sparse.coordinates import CoordinateManager, VoxelSet
from ov3d_perception.sparse.keys import LIMIT, pack, shift
from ov3d_perception.sparse.row_sums import RowSums
from ov3d_perception.sparse.tensor import SparseTensor


class Points:
    """Points in the grid of a coordinate manager.

    positions: in voxels of stride 1, of which voxel c covers [c, c + 1); batch: sample of each point.

    For the trilinear interpolation a voxel of any stride is a sample at the middle of its *first* voxel of stride 1,
    ``c + 0.5``. That is the reference's convention (mit-han-lab/spvnas, core/models/utils.py): there a point is the
    integer coordinate of its voxel and weights are linear in ``C / stride - floor(C / stride)``. Points at the middles
    of voxels (:meth:`of_voxels`) therefore get exactly the reference's weights, and other points lie in between.
    The reference adds 1e-8 to the sum of the weights before it divides by it; here the division is exact.

    Raises PointCloudError for positions that are not finite or outside the key range.
    """

    def __init__(self, positions: Float[Tensor, "n 3"], batch: Int64[Tensor, " n"], manager: CoordinateManager) -> None:
        if len(positions) and not bool((positions.abs() <= LIMIT).all()):
            raise PointCloudError(
                f"Points are not finite or further than {LIMIT} voxels from the origin",
                "Drop or crop such points, or take a larger voxel",
            )
        self.positions, self.batch, self.manager = positions, batch, manager
        self._voxels_of_base: int | None = None
        self._nearest: dict[int, RowSums] = {}
        self._means: dict[int, RowSums] = {}
        self._trilinear: dict[int, RowSums] = {}

    @classmethod
    def of_voxels(cls, x: SparseTensor) -> Points:
        """One point in the middle of each voxel of ``x``, in the order of its rows.

        At the stride of ``x`` features go from points to voxels and back unchanged, and nothing is computed.
        """
        points = cls(x.coords[:, 1:].float() + 0.5, x.coords[:, 0], x.manager)
        points._voxels_of_base = x.stride
        return points

    def __len__(self) -> int:
        return len(self.positions)

    def voxelise(self, feats: Float[Tensor, "n c"], stride: int) -> SparseTensor:
        """The mean feature of the points in each voxel of ``stride``; zero for a voxel without points.

        The manager must have voxels at ``stride``; points in none of them are skipped.
        """
        if stride != self._voxels_of_base:
            if stride not in self._means:
                self._means[stride] = self.cells(stride).transposed.mean()
            feats = self._means[stride](feats)
        return SparseTensor(feats, stride=stride, manager=self.manager)

    def devoxelise(self, x: SparseTensor) -> Float[Tensor, "n c"]:
        """Trilinear interpolation of ``x`` at each point.

        Of the eight corners only occupied voxels count, their weights sum to 1; a point without any gets zero.
        """
        self._require(x)
        if x.stride == self._voxels_of_base:
            return x.feats
        if x.stride not in self._trilinear:
            self._trilinear[x.stride] = _corners(self.positions, self.batch, self.manager.voxels(x.stride), x.stride)
        return self._trilinear[x.stride](x.feats)

    def nearest(self, x: SparseTensor) -> Float[Tensor, "n c"]:
        """The feature of the voxel of ``x`` that each point lies in; zero for a point in none."""
        self._require(x)
        return x.feats if x.stride == self._voxels_of_base else self.cells(x.stride)(x.feats)

    def cells(self, stride: int) -> RowSums:
        """The voxel of ``stride`` that each point lies in, with weight 1."""
        if stride not in self._nearest:
            voxels = self.manager.voxels(stride)
            keys = _keys(torch.floor(self.positions / stride), self.batch, stride)
            place = torch.searchsorted(voxels.keys, keys)
            found = _padded(voxels).index_select(0, place) == keys
            row = voxels.rows(place[found]).int()
            start = pad(found.cumsum(0), (1, 0)).int()
            self._nearest[stride] = RowSums(row, start, self.positions.new_ones(len(row)), len(voxels))
        return self._nearest[stride]

    def _require(self, x: SparseTensor) -> None:
        if x.manager is not self.manager:
            raise ValueError("The points belong to another coordinate manager than the voxels")


def _corners(positions: Tensor, batch: Tensor, voxels: VoxelSet, stride: int) -> RowSums:
    """The occupied corners of the cell of samples around each point, with weights of sum 1.

    The keys of the two corners that differ in z alone are neighbours in the sorted list, if both are occupied: one
    search finds both.
    """
    scaled = (positions - 0.5) / stride
    low = torch.floor(scaled)
    high_share = scaled - low
    share = torch.stack([1 - high_share, high_share], dim=2)
    columns = torch.tensor([shift(dx, dy, 0) for dx in (0, stride) for dy in (0, stride)], device=positions.device)
    lower = _keys(low, batch, stride)[:, None] + columns
    padded = _padded(voxels)
    place = torch.searchsorted(voxels.keys, lower)
    first = padded[place] == lower
    second = padded[place + first] == lower + stride
    place = torch.stack([place, place + first], dim=2)
    weight = torch.einsum("nx,ny,nz->nxyz", *share.unbind(1)).reshape(len(positions), 4, 2)
    weight = weight * torch.stack([first, second], dim=2)
    start = pad((weight > 0).sum((1, 2)).cumsum(0), (1, 0)).int()
    used = weight.flatten().nonzero().squeeze(1)
    weight = weight / weight.sum((1, 2), keepdim=True)
    row = voxels.rows(place.flatten().index_select(0, used)).int()
    return RowSums(row, start, weight.flatten().index_select(0, used), len(voxels))


def _keys(cells: Tensor, batch: Tensor, stride: int) -> Int64[Tensor, " n"]:
    """Keys of the voxels with index ``cells`` along each axis."""
    return pack(torch.cat([batch[:, None], cells.long() * stride], dim=1))


def _padded(voxels: VoxelSet) -> Int64[Tensor, " p"]:
    """The keys, followed by a sentinel larger than all: the end of an unsuccessful search."""
    return torch.cat([voxels.keys, voxels.keys.new_full((1,), torch.iinfo(torch.int64).max)])
