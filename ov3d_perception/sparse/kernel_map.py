"""Which input voxel meets which output voxel under which kernel offset.

The coordinate manager computes it once for each (input stride, output stride, kernel size, dilation). The search works
on sorted keys: one ``searchsorted`` for each (dx, dy) column of the kernel, then a walk along dz, since neighbours
along z are neighbours in the sorted list. Where input and output are the same voxels, the second half of the kernel is
the first with input and output swapped, and its centre is the identity.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from ov3d_perception.sparse.blocks import Block, cut_into_blocks
from ov3d_perception.sparse.keys import shift
from ov3d_perception.sparse.workers import run_on_threads

_BEYOND = torch.iinfo(torch.int64).max
Pairs = tuple[Tensor, Tensor]


class Stencil(NamedTuple):
    """Which voxels a convolution connects: those at stride ``fine`` with those at ``coarse`` (which may be equal)."""

    fine: int
    coarse: int
    kernel_size: int
    dilation: int = 1

    @property
    def partition(self) -> bool:
        """Each fine voxel has one coarse one and one offset: an even kernel as large as the stride."""
        return self.kernel_size * self.fine == self.coarse and self.kernel_size % 2 == 0 and self.dilation == 1


@dataclass(frozen=True)
class RowSegments:
    """The pairs of a map grouped by output row r: ``pair[start[r]:start[r + 1]]``; segment: of each pair."""

    pair: Int32[Tensor, " p"]
    segment: Int32[Tensor, " p"]
    start: Int32[Tensor, " q"]  # one more than output rows


@dataclass(frozen=True)
class KernelMap:
    """Pairs of rows, in one segment for each kernel offset.

    in_rows, out_rows: the pairs, segment after segment; the output rows ascend within each segment;
    sizes: pairs of each segment;
    slots: row of the kernel that each segment is multiplied with, ``ix + k * (iy + k * iz)``, x fastest;
    symmetric: segment i is segment -1 - i with input and output swapped, the middle one every row with itself.
    """

    in_rows: Int32[Tensor, " p"]
    out_rows: Int32[Tensor, " p"]
    sizes: tuple[int, ...]
    slots: tuple[int, ...]
    n_in: int
    n_out: int
    symmetric: bool = False
    _blocks: dict[int, list[Block]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_pairs(cls, pairs: list[Pairs], n_in: int, n_out: int, symmetric: bool = False) -> KernelMap:
        """From (input rows, output rows) of each offset in the kernel's order."""
        in_rows = torch.cat([i.int() for i, _ in pairs])
        out_rows = torch.cat([o.int() for _, o in pairs])
        sizes = tuple(len(i) for i, _ in pairs)
        return cls(*_ascending(in_rows, out_rows, sizes), sizes, tuple(range(len(pairs))), n_in, n_out, symmetric)

    def pairs(self) -> list[Pairs]:
        """(input rows, output rows) of each segment."""
        return list(zip(self.in_rows.split(self.sizes), self.out_rows.split(self.sizes), strict=True))

    @cached_property
    def transposed(self) -> KernelMap:
        """The map of the transposed convolution: input and output change places, pairs keep their kernel offset."""
        if not self.symmetric:
            pairs = _ascending(self.out_rows, self.in_rows, self.sizes)
            return KernelMap(*pairs, self.sizes, self.slots, self.n_out, self.n_in)
        return replace(self, slots=self.slots[::-1])

    @cached_property
    def row_segments(self) -> RowSegments:
        """All pairs by output row."""
        starts = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int32)
        if self.out_rows.is_cuda:
            pair = torch.argsort(self.out_rows, stable=True)
            segment = torch.searchsorted(torch.from_numpy(starts).to(pair.device), pair.int(), right=True) - 1
            start = torch.nn.functional.pad(torch.bincount(self.out_rows, minlength=self.n_out).cumsum(0), (1, 0))
            return RowSegments(pair.int(), segment.int(), start.int())
        columns = (np.arange(len(self.out_rows), dtype=np.int32), self.out_rows.numpy(), starts)
        rows = scipy.sparse.csc_array(columns, shape=(self.n_out, len(self.sizes))).tocsr()
        return RowSegments(*(torch.from_numpy(part) for part in (rows.data, rows.indices, rows.indptr)))

    @cached_property
    def kernel_rows(self) -> Int32[Tensor, " s"]:
        """``slots`` as a tensor in main memory."""
        return torch.tensor(self.slots, dtype=torch.int32)

    def blocks(self, pairs: int, threads: int | None = None) -> list[Block]:
        """See :func:`~ov3d_perception.sparse.blocks.cut_into_blocks`. Kept.

        threads: number that shares them; None: PyTorch's.
        """
        if pairs not in self._blocks:
            self._blocks[pairs] = cut_into_blocks(self, pairs, threads or torch.get_num_threads())
        return self._blocks[pairs]


def _ascending(in_rows: Tensor, out_rows: Tensor, sizes: tuple[int, ...]) -> Pairs:
    """The pairs with ascending output rows in each segment; unchanged where all voxels are in the order of their
    keys."""
    counts = torch.tensor(sizes, device=out_rows.device)
    falls = out_rows[1:] < out_rows[:-1]
    borders = counts.cumsum(0)[:-1] - 1
    falls[borders[(borders >= 0) & (borders < len(falls))]] = False
    if not bool(falls.any()):
        return in_rows, out_rows
    segment = torch.arange(len(sizes), device=out_rows.device).repeat_interleave(counts)
    order = torch.argsort((segment << 32) + out_rows)
    return in_rows[order], out_rows[order]


def offsets(kernel_size: int) -> list[int]:
    """Kernel positions along one axis: centred for odd sizes, 0..k-1 for even ones (MinkowskiEngine's hypercube)."""
    first = -(kernel_size // 2) if kernel_size % 2 else 0
    return list(range(first, first + kernel_size))


def submanifold_pairs(keys: Int64[Tensor, " n"], kernel_size: int, step: int, dilation: int) -> list[Pairs]:
    """Pairs of a stride-1 convolution with odd kernel: sorted ``keys`` on a grid of ``step`` voxels to themselves."""
    volume = kernel_size**3
    centre = volume // 2
    rows = torch.arange(len(keys), dtype=torch.int32, device=keys.device)
    pairs: list[Pairs] = [(rows, rows)] * volume
    for index, found in _search(keys, keys, kernel_size, step, dilation, until=centre).items():
        pairs[index] = found
        pairs[volume - 1 - index] = found[::-1]
    return pairs


def inner_pairs(pairs: list[Pairs], outer_size: int, kernel_size: int) -> list[Pairs]:
    """Pairs of the smaller odd kernel in the middle of a larger one."""
    margin = (outer_size - kernel_size) // 2
    axis = range(margin, margin + kernel_size)
    return [pairs[x + outer_size * (y + outer_size * z)] for z in axis for y in axis for x in axis]


def general_pairs(
    in_keys: Int64[Tensor, " n"], out_keys: Int64[Tensor, " m"], kernel_size: int, step: int, dilation: int
) -> list[Pairs]:
    """Pairs between any two sorted key lists: input = output + dilation * step * offset."""
    found = _search(in_keys, out_keys, kernel_size, step, dilation, until=kernel_size**3)
    return [found[index] for index in range(kernel_size**3)]


def partition_pairs(
    coords: Int64[Tensor, "n 4"], parent: Int64[Tensor, " n"], kernel_size: int, step: int
) -> list[Pairs]:
    """Pairs of a convolution whose stride equals its even kernel size: each input has one parent and one offset."""
    place = torch.div(coords[:, 1:], step, rounding_mode="floor").remainder(kernel_size)
    index = place[:, 0] + kernel_size * (place[:, 1] + kernel_size * place[:, 2])
    order = torch.argsort(index, stable=True)
    sizes = torch.bincount(index, minlength=kernel_size**3).tolist()
    return list(zip(order.split(sizes), parent[order].split(sizes), strict=True))


def _search(
    in_keys: Tensor, out_keys: Tensor, kernel_size: int, step: int, dilation: int, until: int
) -> dict[int, Pairs]:
    """Pairs by offset index, of each offset before ``until`` in the order of keys; columns spread over threads.

    ``until`` counts offsets in lexicographic (x, y, z) order; the centre has the same rank in every order of axes.
    """
    padded = torch.cat([in_keys, in_keys.new_full((1,), _BEYOND)])
    axis = offsets(kernel_size)
    found: dict[int, Pairs] = {}

    def work(columns: Iterable[tuple[int, int]]) -> None:
        for ix, iy in columns:
            position = None
            for iz in range(min(kernel_size, until - kernel_size * (iy + kernel_size * ix))):
                dx, dy, dz = (step * dilation * axis[i] for i in (ix, iy, iz))
                wanted = out_keys + shift(dx, dy, dz)
                if position is None or dilation > 1:
                    position = torch.searchsorted(in_keys, wanted, out_int32=True)
                hit = padded.index_select(0, position) == wanted
                rows = hit.nonzero().squeeze(1).int()
                found[ix + kernel_size * (iy + kernel_size * iz)] = position.index_select(0, rows), rows
                position = position + hit

    columns = [(ix, iy) for ix in range(kernel_size) for iy in range(kernel_size)]
    run_on_threads(work, [c for c in columns if kernel_size * (c[1] + kernel_size * c[0]) < until], in_keys.device)
    return found
