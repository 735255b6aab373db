"""A kernel map cut into blocks that fit the processor's cache.

A block is a run of output rows with all their pairs, offset after offset, and its products are summed by output row
while they still lie in the cache; the buffer is as large as a block, not as the map. Within a block the pairs of an
offset are cut into tiles, whose inputs are still in the inner cache after gathering when they are multiplied. Tiles
have few distinct heights (multiples of a step, the last one padded), since a library that compiles a program for each
shape (oneDNN, for bfloat16) would otherwise compile all the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Int32, Int64
from torch import Tensor

if TYPE_CHECKING:
    from ov3d_perception.sparse.kernel_map import KernelMap


class Cut(NamedTuple):
    """pairs: in a block, about; step: of which tiles' heights are multiples; tile: the greatest height, one too."""

    pairs: int
    step: int
    tile: int


CUTS = {"cpu": Cut(3 << 14, 1 << 7, 1 << 11), "cuda": Cut(1 << 22, 1, 1 << 30)}
"""By type of device. A GPU wants few large products."""

_FEW_PAIRS = 1 << 12
"""With fewer there are not several blocks."""


class Tile(NamedTuple):
    """Pairs of one segment. in_rows, out_rows: the first ``pairs`` of them; what follows is padding, row 0."""

    segment: int
    pairs: int
    in_rows: Int32[Tensor, " h"]
    out_rows: Int32[Tensor, " h"]


@dataclass(frozen=True)
class Block:
    """rows: the output rows; tiles: their pairs, segment after segment; heights: of the tiles, padding included;
    pair, start: ``pair[start[r]:start[r + 1]]`` are the places of row r's pairs among the tiles' rows.
    """

    rows: slice
    tiles: tuple[Tile, ...]
    heights: tuple[int, ...]
    pair: Int32[Tensor, " b"]
    start: Int32[Tensor, " r+1"]

    def __len__(self) -> int:
        """Rows of all tiles."""
        return sum(self.heights)


def cut_into_blocks(kernel_map: KernelMap) -> list[Block]:
    """Blocks with about the same number of pairs each, in the order of their output rows."""
    pairs, bags = torch.stack([kernel_map.in_rows, kernel_map.out_rows]), kernel_map.bags
    device = pairs.device
    cut = CUTS[device.type]
    count = _count(pairs.shape[1], cut, device)
    wanted = torch.linspace(0, pairs.shape[1], count + 1, device=device)[1:-1].int()
    inner = torch.searchsorted(bags.start, wanted, out_int32=True)
    on_device = torch.cat([inner.new_zeros(1), inner, inner.new_full((1,), kernel_map.n_out)])
    edges = on_device.cpu()
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
        tiles = tuple(_tiles(rows[:, begin:], sizes[:, number].tolist(), cut))
        heights = tuple(len(tile.in_rows) for tile in tiles)
        start = bags.start[first : last + 1] - mine.start
        blocks.append(Block(slice(first, last), tiles, heights, pair[mine] - begin, start))
    return blocks


def _count(pairs: int, cut: Cut, device: torch.device) -> int:
    """Of blocks: as many for each thread, unless there is little to do."""
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    return 1 if pairs < min(_FEW_PAIRS, cut.pairs) else -(-pairs // (cut.pairs * threads)) * threads


def _places(starts: Tensor, sizes: Tensor, device: torch.device) -> Int64[Tensor, " p"]:
    """Where each pair, segment after segment, comes to lie among all blocks' rows."""
    sizes = sizes.flatten().long()
    shift = starts.flatten() - (sizes.cumsum(0) - sizes)
    total = int(sizes.sum())
    moved = shift.to(device).repeat_interleave(sizes.to(device), output_size=total)
    return moved + torch.arange(total, device=device)


def _tiles(rows: Int32[Tensor, "2 p"], sizes: list[int], cut: Cut) -> Iterator[Tile]:
    """Of one block, whose padded rows come first in ``rows``; sizes: pairs of each segment."""
    shapes = [
        (segment, min(cut.tile, size - done)) for segment, size in enumerate(sizes) for done in range(0, size, cut.tile)
    ]
    heights = [-(-pairs // cut.step) * cut.step for _, pairs in shapes]
    in_rows, out_rows = (side.split(heights) for side in rows[:, : sum(heights)])
    for (segment, pairs), ins, outs in zip(shapes, in_rows, out_rows, strict=True):
        yield Tile(segment, pairs, ins, outs)
