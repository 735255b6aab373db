"""A kernel map cut into blocks: runs of output rows with all their pairs. A block's sums fit a core's cache, and there
are enough blocks for threads to share them evenly."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Int32, Int64
from llvmlite import ir
from torch import Tensor

from ov3d_perception.llvm_code import LONG, LONGS, WORD, Code
from ov3d_perception.sparse.compiling import compiled

if TYPE_CHECKING:
    from ov3d_perception.sparse.kernel_map import KernelMap

_FEW_PAIRS = 1 << 12
"""Fewer pairs are one block."""


class Block(NamedTuple):
    """rows: of the output; begin, end: range of the block's pairs in each segment of the map."""

    rows: slice
    begin: Int32[Tensor, " s"]
    end: Int32[Tensor, " s"]


class Cut(NamedTuple):
    """Output rows at which blocks begin and end, where those are in each segment of the map, and the rows of the
    largest block."""

    rows: Int32[Tensor, " b"]
    edges: Int32[Tensor, "b s"]
    most: int

    def blocks(self) -> list[Block]:
        """Each by itself."""
        rows, edges = self.rows.tolist(), list(self.edges)
        return [Block(slice(rows[n], rows[n + 1]), edges[n], edges[n + 1]) for n in range(len(rows) - 1)]


def cut_into_blocks(kernel_map: KernelMap, pairs: int, threads: int) -> Cut:
    """Blocks of about ``pairs`` pairs in the order of their output rows; their number is a multiple of the threads'."""
    out_rows, n_out = kernel_map.out_rows, kernel_map.n_out
    total = len(out_rows)
    count = 1 if total < min(_FEW_PAIRS, pairs) else min(-(-total // (pairs * threads)) * threads, max(n_out, 1))
    starts = torch.tensor(list(accumulate(kernel_map.sizes, initial=0)))  # of the segments, and where the last ends
    if count == 1:
        return Cut(torch.tensor([0, n_out], dtype=torch.int32), torch.stack([starts[:-1], starts[1:]]).int(), n_out)
    bounds = _bounds if out_rows.device.type == "cpu" else _bounds_anywhere
    rows, edges = bounds(kernel_map, starts, count)
    return Cut(rows, edges, int(rows.diff().max()))


Bounds = tuple[Int32[Tensor, " b"], Int32[Tensor, "b s"]]


def _bounds(kernel_map: KernelMap, starts: Int64[Tensor, " e"], count: int) -> Bounds:
    """Output rows at which blocks begin and end, and where in each segment."""
    rows = torch.empty(count + 1, dtype=torch.int32)
    edges = torch.empty(count + 1, len(starts) - 1, dtype=torch.int32)
    held = torch.zeros(kernel_map.n_out, dtype=torch.int32)
    arrays = (kernel_map.out_rows, starts, held, rows, edges)
    _cut()(*(part.data_ptr() for part in arrays), len(starts) - 1, len(kernel_map.out_rows), kernel_map.n_out, count)
    return rows, edges


def _bounds_anywhere(kernel_map: KernelMap, starts: Int64[Tensor, " e"], count: int) -> Bounds:
    """The same by PyTorch's operations."""
    out_rows, device = kernel_map.out_rows, kernel_map.out_rows.device
    rows = torch.linspace(0, kernel_map.n_out, count + 1, device=device).int()
    ends = torch.bincount(out_rows, minlength=kernel_map.n_out).cumsum(0)
    wanted = torch.linspace(0, len(out_rows), count + 1, device=device)[1:-1].long()
    rows[1:-1] = torch.searchsorted(ends, wanted, out_int32=True)
    parts = out_rows.split(kernel_map.sizes)
    edges = torch.stack([torch.searchsorted(part, rows, out_int32=True) for part in parts])
    return rows, (edges + starts.int().to(device)[:-1, None]).T.contiguous().cpu()


@cache
def _cut() -> Callable[..., None]:
    return compiled("cut", [WORD, LONGS, WORD, WORD, WORD, *[LONG] * 4], _write_cut)


def _write_cut(code: Code) -> None:
    """Count the pairs of each output row, end a block where it has its share, and look these rows up in all
    segments."""
    out_rows, starts, held, rows, edges, segments, total, n_out, count = code.fn.args
    with code.loop(0, total) as pair:
        code.increment(code.at(held, code.long(code.at(out_rows, pair))))
    block, so_far = code.variable(LONG, LONG(0)), code.variable(LONG, LONG(0))
    with code.loop(0, n_out) as row:

        def full() -> ir.Value:
            return code.icmp_signed("<=", code.mul(code.load(block), total), code.mul(code.load(so_far), count))

        with code.loop_while(lambda: code.and_(full(), code.icmp_signed("<", code.load(block), count))):
            code.store(code.trunc(row, WORD), code.at(rows, code.increment(block)))
        code.increment(so_far, code.long(code.at(held, row)))
    with code.loop_while(lambda: code.icmp_signed("<=", code.load(block), count)):
        code.store(code.trunc(n_out, WORD), code.at(rows, code.increment(block)))
    with code.loop(0, segments) as segment:
        low = code.variable(LONG, code.load(code.at(starts, segment)))
        last = code.load(code.at(starts, code.add(segment, LONG(1))))
        with code.loop(0, code.add(count, LONG(1))) as edge:
            row, high = code.load(code.at(rows, edge)), code.variable(LONG, last)
            with code.loop_while(lambda: code.icmp_signed("<", code.load(low), code.load(high))):
                middle = code.lshr(code.add(code.load(low), code.load(high)), LONG(1))
                below = code.icmp_signed("<", code.load(code.at(out_rows, middle)), row)
                code.store(code.select(below, code.add(middle, LONG(1)), code.load(low)), low)
                code.store(code.select(below, code.load(high), middle), high)
            code.store(code.trunc(code.load(low), WORD), code.at(edges, (edge, segments), segment))
