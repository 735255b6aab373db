"""A kernel map cut into blocks: runs of output rows with all their pairs. A block's sums fit a core's cache, and there
are enough blocks for threads to share them evenly."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Int32
from torch import Tensor

if TYPE_CHECKING:
    from ov3d_perception.sparse.kernel_map import KernelMap

_FEW_PAIRS = 1 << 12
"""Fewer pairs are one block."""


class Block(NamedTuple):
    """rows: of the output; begin, end: range of the block's pairs in each segment of the map."""

    rows: slice
    begin: Int32[Tensor, " s"]
    end: Int32[Tensor, " s"]


def cut_into_blocks(kernel_map: KernelMap, pairs: int, threads: int) -> list[Block]:
    """Blocks of about ``pairs`` pairs in the order of their output rows; their number is a multiple of the threads'."""
    out_rows, device = kernel_map.out_rows, kernel_map.out_rows.device
    total, n_out = len(out_rows), kernel_map.n_out
    count = 1 if total < min(_FEW_PAIRS, pairs) else min(-(-total // (pairs * threads)) * threads, max(n_out, 1))
    inner = torch.linspace(0, n_out, count + 1, device=device).int()
    if count > 1:
        ends = torch.bincount(out_rows, minlength=n_out).cumsum(0)
        wanted = torch.linspace(0, total, count + 1, device=device)[1:-1].long()
        inner[1:-1] = torch.searchsorted(ends, wanted, out_int32=True)
    bounds = torch.stack([torch.searchsorted(rows, inner, out_int32=True) for rows in out_rows.split(kernel_map.sizes)])
    starts = torch.tensor((0, *kernel_map.sizes), dtype=torch.int32, device=device).cumsum(0, dtype=torch.int32)[:-1]
    edges = (bounds + starts[:, None]).T.contiguous().cpu()
    rows = inner.tolist()
    return [Block(slice(rows[n], rows[n + 1]), edges[n], edges[n + 1]) for n in range(count)]
