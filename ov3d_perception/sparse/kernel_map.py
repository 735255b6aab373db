"""Which input voxel meets which output voxel under which kernel offset.

The coordinate manager computes it once for each (input stride, output stride, kernel size, dilation), by
:mod:`~ov3d_perception.sparse.search`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int32
from torch import Tensor

from ov3d_perception.sparse.blocks import Block, Cut, cut_into_blocks
from ov3d_perception.sparse.neighbours import Pairs


class Stencil(NamedTuple):
    """Which voxels a convolution connects: those at stride ``fine`` with those at ``coarse`` (which may be equal)."""

    fine: int
    coarse: int
    kernel_size: int
    dilation: int = 1

    def contains(self, other: Stencil) -> bool:
        """Whether it meets all that the other one does, both within the same voxels, with odd kernels."""
        same = self.fine == self.coarse == other.fine == other.coarse and self.dilation == other.dilation
        return same and self.kernel_size % 2 == other.kernel_size % 2 == 1 and self.kernel_size >= other.kernel_size

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
    symmetric: segment i is segment -1 - i with input and output swapped, the middle one every row with itself;
    ordered: rows are in the order of the voxels' keys, so that input rows ascend within each segment, too.
    """

    in_rows: Int32[Tensor, " p"]
    out_rows: Int32[Tensor, " p"]
    sizes: tuple[int, ...]
    slots: tuple[int, ...]
    n_in: int
    n_out: int
    symmetric: bool = False
    ordered: bool = False
    _cuts: dict[int, Cut] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_pairs(
        cls, pairs: Pairs, n_in: int, n_out: int, symmetric: bool = False, ordered: bool = False
    ) -> KernelMap:
        """From the pairs of each offset in the kernel's order."""
        rows = (pairs.in_rows, pairs.out_rows) if ordered else _ascending(*pairs)
        return cls(*rows, pairs.sizes, tuple(range(len(pairs.sizes))), n_in, n_out, symmetric, ordered)

    @classmethod
    def of_each_row(cls, count: int) -> KernelMap:
        """Each row with itself, of a pointwise kernel."""
        rows = torch.arange(count, dtype=torch.int32)
        return cls(rows, rows, (count,), (0,), count, count, symmetric=True, ordered=True)

    def inner(self, size: int) -> KernelMap:
        """The map of the kernel of this size in the middle of this one's, both odd."""
        whole = round(len(self.sizes) ** (1 / 3))
        margin = (whole - size) // 2
        axis = range(margin, margin + size)
        chosen = [ix + whole * (iy + whole * iz) for iz in axis for iy in axis for ix in axis]
        in_rows, out_rows = (
            torch.cat([parts[slot] for slot in chosen])
            for parts in (x.split(self.sizes) for x in (self.in_rows, self.out_rows))
        )
        sizes, slots = tuple(self.sizes[slot] for slot in chosen), tuple(range(size**3))
        return KernelMap(in_rows, out_rows, sizes, slots, self.n_in, self.n_out, self.symmetric, self.ordered)

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """(input rows, output rows) of each segment."""
        return list(zip(self.in_rows.split(self.sizes), self.out_rows.split(self.sizes), strict=True))

    @cached_property
    def transposed(self) -> KernelMap:
        """The map of the transposed convolution: input and output change places, pairs keep their kernel offset."""
        if not self.symmetric:
            pairs = self.out_rows, self.in_rows
            pairs = pairs if self.ordered else _ascending(*pairs, self.sizes)
            return KernelMap(*pairs, self.sizes, self.slots, self.n_out, self.n_in, ordered=self.ordered)
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
        from scipy.sparse import csc_array  # not while a node starts

        columns = (np.arange(len(self.out_rows), dtype=np.int32), self.out_rows.numpy(), starts)
        rows = csc_array(columns, shape=(self.n_out, len(self.sizes))).tocsr()
        return RowSegments(*(torch.from_numpy(part) for part in (rows.data, rows.indices, rows.indptr)))

    @cached_property
    def starts(self) -> Int32[Tensor, " t"]:
        """Where each segment begins among the pairs, and the end, in main memory."""
        return torch.tensor([0, *accumulate(self.sizes)], dtype=torch.int32)

    @cached_property
    def kernel_rows(self) -> Int32[Tensor, " s"]:
        """``slots`` as a tensor in main memory."""
        return torch.tensor(self.slots, dtype=torch.int32)

    def cut(self, pairs: int, threads: int | None = None) -> Cut:
        """See :func:`~ov3d_perception.sparse.blocks.cut_into_blocks`. Kept.

        threads: number that shares them; None: PyTorch's.
        """
        if pairs not in self._cuts:
            self._cuts[pairs] = cut_into_blocks(self, pairs, threads or torch.get_num_threads())
        return self._cuts[pairs]

    def blocks(self, pairs: int, threads: int | None = None) -> list[Block]:
        """The blocks of the :meth:`cut`."""
        return self.cut(pairs, threads).blocks()


def _ascending(in_rows: Tensor, out_rows: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The pairs with ascending output rows in each segment; unchanged where all voxels are in the order of their
    keys."""
    counts = torch.tensor(sizes, device=out_rows.device)
    borders = counts.cumsum(0)[:-1] - 1
    falls = out_rows[1:] < out_rows[:-1]
    falls[borders[(borders >= 0) & (borders < len(falls))]] = False
    if not bool(falls.any()):
        return in_rows, out_rows
    segment = torch.arange(len(sizes), device=out_rows.device).repeat_interleave(counts)
    order = torch.argsort((segment << 32) + out_rows)
    return in_rows[order], out_rows[order]
