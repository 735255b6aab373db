"""A kernel map cut into blocks that fit the processor's cache.

A block is a run of output rows with all their pairs, offset after offset. Its inputs are gathered at once, multiplied
offset by offset, and the products summed by output row while they still lie in the cache; the buffers are as large as
one block, not as the map. What is multiplied comes in few distinct heights (each offset's rows are padded to a multiple
of a step, and cut into tiles), since a library that compiles a program for each shape (oneDNN, for bfloat16) would
otherwise compile all the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Int32, Int64
from torch import Tensor

if TYPE_CHECKING:
    from ov3d_perception.sparse.kernel_map import KernelMap


class Cut(NamedTuple):
    """pairs: in a block, about; step: of which heights are multiples; tile: the greatest height."""

    pairs: int
    step: int
    tile: int


CUTS = {"cpu": Cut(1 << 15, 1 << 5, 1 << 10), "cuda": Cut(1 << 22, 1, 1 << 30)}
"""By type of device. A GPU wants few large products."""


class Tile(NamedTuple):
    """Rows start:stop of a block, multiplied with one segment's matrix; those from ``end`` on are padding."""

    segment: int
    start: int
    end: int
    stop: int


@dataclass(frozen=True)
class Block:
    """rows: the output rows; in_rows, out_rows: their pairs, segment after segment, padded with 0; pair, start: the
    pairs of each output row, row r's being ``pair[start[r]:start[r + 1]]``.
    """

    rows: slice
    in_rows: Int32[Tensor, " p"]
    out_rows: Int32[Tensor, " p"]
    tiles: tuple[Tile, ...]
    pair: Int32[Tensor, " b"]
    start: Int32[Tensor, " r+1"]

    @cached_property
    def heights(self) -> list[int]:
        """Of the tiles, padding included; together they are the block's."""
        return [tile.stop - tile.start for tile in self.tiles]


def cut_into_blocks(kernel_map: KernelMap) -> list[Block]:
    """Blocks with about the same number of output rows each, in order."""
    pairs, bags = torch.stack([kernel_map.in_rows, kernel_map.out_rows]), kernel_map.bags
    device = pairs.device
    cut = CUTS[device.type]
    count = max(1, round(pairs.shape[1] / cut.pairs))
    edges = torch.linspace(0, kernel_map.n_out, count + 1).int()
    on_device = edges.to(device)
    bounds = [torch.searchsorted(rows, on_device, out_int32=True) for rows in pairs[1].split(kernel_map.sizes)]
    sizes = torch.stack(bounds).diff(dim=1).cpu()  # [segment, block]
    padded = (sizes + cut.step - 1).div(cut.step, rounding_mode="floor") * cut.step
    starts = (padded.T.flatten().cumsum(0) - padded.T.flatten()).view(count, -1).T
    place = _places(starts, sizes, device)
    rows = torch.zeros((2, int(padded.sum())), dtype=torch.int32, device=device).index_copy_(1, place, pairs)
    pair = place.int().index_select(0, bags.pair)
    edge_pairs = bags.start.index_select(0, on_device).tolist()
    blocks = []
    for number, (first, last) in enumerate(pairwise(edges.tolist())):
        begin, mine = int(starts[0, number]), slice(edge_pairs[number], edge_pairs[number + 1])
        tiles = tuple(_tiles((starts[:, number] - begin).tolist(), sizes[:, number].tolist(), cut))
        inside = rows[:, begin : begin + int(padded[:, number].sum())]
        start = bags.start[first : last + 1] - mine.start
        blocks.append(Block(slice(first, last), inside[0], inside[1], tiles, pair[mine] - begin, start))
    return blocks


def _places(starts: Tensor, sizes: Tensor, device: torch.device) -> Int64[Tensor, " p"]:
    """Where each pair, segment after segment, comes to lie among all blocks' rows."""
    sizes = sizes.flatten().long()
    shift = starts.flatten() - (sizes.cumsum(0) - sizes)
    total = int(sizes.sum())
    moved = shift.to(device).repeat_interleave(sizes.to(device), output_size=total)
    return moved + torch.arange(total, device=device)


def _tiles(starts: list[int], sizes: list[int], cut: Cut) -> Iterator[Tile]:
    for segment, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        end = start + size
        for first in range(start, end, cut.tile):
            height = min(cut.tile, -(-(end - first) // cut.step) * cut.step)
            yield Tile(segment, first, min(end, first + height), first + height)
