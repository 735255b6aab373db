"""The voxels of a sparse tensor at every stride, and the kernel maps between them, each computed once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from ov3d_perception.errors import PointCloudError
from ov3d_perception.sparse.convolution import convolve, pairs_in_a_block
from ov3d_perception.sparse.epilogue import Epilogue
from ov3d_perception.sparse.kernel_map import KernelMap, Stencil
from ov3d_perception.sparse.keys import pack, shift, unpack
from ov3d_perception.sparse.neighbours import Pairs
from ov3d_perception.sparse.runtime.workers import run_in_background
from ov3d_perception.sparse.search import general_pairs, partition_pairs, submanifold_pairs
from ov3d_perception.sparse.unique import unique_keys


@dataclass(frozen=True)
class VoxelSet:
    """Occupied voxels at one stride. ``keys`` ascend; ``order[i]`` is the row of the i-th key, None when equal to i."""

    coords: Int64[Tensor, "n 4"]
    keys: Int64[Tensor, " n"]
    order: Int64[Tensor, " n"] | None

    @classmethod
    def from_coords(cls, coords: Int64[Tensor, "n 4"]) -> VoxelSet:
        """Voxels in any order, which is kept."""
        keys, order = pack(coords), None
        if len(keys) > 1 and not bool((keys[1:] > keys[:-1]).all()):
            keys, order = keys.sort()
        return cls(coords, keys, order)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def row_keys(self) -> Int64[Tensor, " n"]:
        """The key of each row."""
        return self.keys if self.order is None else torch.empty_like(self.keys).scatter_(0, self.order, self.keys)

    def rows(self, position: Tensor) -> Tensor:
        """Rows of the tensor from positions in the sorted keys."""
        return position if self.order is None else self.order.index_select(0, position)


class CoordinateManager:
    """Owner of the voxel sets of one sparse tensor and of all that are derived from it, and of how they are convolved.

    This is the ``torch`` backend; the others derive from it (see :mod:`~ov3d_perception.sparse.backends`) and override
    how voxels are made and convolved. Pooling and points to voxels work on coordinates alone, for all backends.

    coords: distinct ``[batch, x, y, z]`` rows in voxels, multiples of ``stride``; any order, their rows are kept.
    Raises PointCloudError for duplicates and for coordinates outside the key range.
    """

    def __init__(self, coords: Int64[Tensor, "n 4"], stride: int = 1) -> None:
        voxels = VoxelSet.from_coords(coords.long())
        if voxels.order is not None and bool((voxels.keys[1:] == voxels.keys[:-1]).any()):
            raise PointCloudError(
                "A sparse tensor was given the same voxel twice", "Quantise the points first: sparse.quantize"
            )
        self._sets = {stride: voxels}
        self._maps: dict[Stencil, KernelMap] = {}
        self._pending: dict[Stencil, Future[KernelMap]] = {}
        self._parents: dict[tuple[int, int], Tensor] = {}

    def voxels(self, stride: int) -> VoxelSet:
        """The voxel set at ``stride``. Raises ValueError if no layer has made it."""
        if stride not in self._sets:
            raise ValueError(f"No voxels at stride {stride}; there are some at {sorted(self._sets)}")
        return self._sets[stride]

    def convolve(
        self,
        feats: Float[Tensor, "n i"],
        kernel: Float[Tensor, "k i o"],
        stencil: Stencil,
        epilogue: Epilogue | None = None,
        transposed: bool = False,
    ) -> Float[Tensor, "m o"]:
        """A convolution from the fine to the coarse voxels, which are made if needed.

        epilogue: applied to the result, where no gradients are recorded. transposed: from the coarse to the fine
        voxels, which must exist.
        """
        if transposed:
            self.voxels(stencil.fine)
        return convolve(feats, kernel, self.kernel_map(*stencil), epilogue, transposed)

    def kernel_map(self, fine: int, coarse: int, kernel_size: int, dilation: int = 1) -> KernelMap:
        """Map of a (down-)convolution, see :class:`Stencil`; makes the output voxels where needed."""
        stencil = Stencil(fine, coarse, kernel_size, dilation)
        if stencil not in self._maps:
            pending = self._pending.pop(stencil, None)
            self._maps[stencil] = self._build(stencil) if pending is None else pending.result()
        return self._maps[stencil]

    def expect(self, stencils: Sequence[Stencil], feats: Tensor) -> None:
        """Announce the maps to come, in this order, for features like ``feats``: on a CPU with several threads, another
        thread starts to compute them and their blocks.
        """
        if feats.device.type != "cpu" or torch.get_num_threads() < 2:
            return
        pairs = pairs_in_a_block(feats)
        for stencil in stencils:
            if stencil not in self._maps and stencil not in self._pending:
                self._pending[stencil] = run_in_background(self._made, stencil, pairs, torch.get_num_threads())

    def _made(self, stencil: Stencil, pairs: int, threads: int) -> KernelMap:
        made = self._build(stencil)
        for way in (made, made.transposed):
            way.cut(pairs, threads)
        return made

    def _build(self, stencil: Stencil) -> KernelMap:
        fine, coarse, size, dilation = stencil
        source = self.voxels(fine)
        larger = next((known for of, known in list(self._maps.items()) if of.contains(stencil)), None)
        if larger is not None:
            return larger.inner(size)
        if fine == coarse and size % 2:
            pairs = _in_rows_of(source, source, submanifold_pairs(source.keys, size, fine, dilation))
            ordered = source.order is None
            return KernelMap.from_pairs(pairs, len(source), len(source), symmetric=True, ordered=ordered)
        parent = self._downsample(fine, coarse)
        target = self.voxels(coarse)
        if stencil.partition:
            pairs = partition_pairs(source.row_keys, source.coords, parent, size, fine)
        else:
            found = general_pairs(source.keys, target.keys, size, fine, dilation)
            pairs = _in_rows_of(source, target, found)
        ordered = source.order is None and target.order is None
        return KernelMap.from_pairs(pairs, len(source), len(target), ordered=ordered)

    def _downsample(self, in_stride: int, out_stride: int) -> Int32[Tensor, " n"]:
        """Makes the voxels at ``out_stride`` by floor division; returns the row of each input's parent."""
        key = (in_stride, out_stride)
        if key not in self._parents:
            source = self.voxels(in_stride)
            keys, parent = unique_keys(_floored(source, out_stride))
            self._sets.setdefault(out_stride, VoxelSet(unpack(keys), keys, None))
            target = self.voxels(out_stride)
            self._parents[key] = parent if target.order is None else target.rows(parent).int()
        return self._parents[key]


def _floored(voxels: VoxelSet, stride: int) -> Int64[Tensor, " n"]:
    """Keys of the rows' parents. A stride that is a power of two clears the lowest bits of each axis."""
    if stride & (stride - 1) == 0:
        return voxels.row_keys & ~shift(stride - 1, stride - 1, stride - 1)
    coords = voxels.coords.clone()
    coords[:, 1:] = torch.div(coords[:, 1:], stride, rounding_mode="floor") * stride
    return pack(coords)


def _in_rows_of(source: VoxelSet, target: VoxelSet, pairs: Pairs) -> Pairs:
    """From positions in the sorted keys to rows."""
    if source.order is None and target.order is None:
        return pairs
    return Pairs(source.rows(pairs.in_rows).int(), target.rows(pairs.out_rows).int(), pairs.sizes)
