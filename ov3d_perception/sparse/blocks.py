"""A kernel map cut into blocks that fit the processor's cache.

A block is a run of output rows with all their pairs, offset after offset, and its products are summed by output row
while they still lie in the cache; the buffer is as large as a block, not as the map. Within a block the pairs of an
offset are cut into tiles, and tiles grouped to chunks, whose inputs are gathered at once. Where a library compiles a
program for each shape (oneDNN, for bfloat16), tiles have few distinct heights: multiples of a step, the last one
padded.
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


LOOP = {"cpu": Cut(3 << 14, 1, 1 << 11), "cpu16": Cut(1 << 15, 1 << 7, 1 << 11), "cuda": Cut(1 << 22, 1, 1 << 30)}
"""Where tile after tile is multiplied; by type of device, and for 16-bit features on a CPU, of which oneDNN compiles a
program for each height. A GPU wants few large products."""
GROUPED = {"cpu": Cut(1 << 13, 1, 1 << 30), "cpu16": LOOP["cpu16"]}
"""Where a block is multiplied in one call: what was gathered has to fit the inner cache as a whole."""

_FEW_PAIRS = 1 << 12
"""With fewer there are not several blocks."""
_CHUNK = 1 << 12


def cut_for(device: torch.device, dtype: torch.dtype, grouped: bool) -> Cut:
    """How maps are cut for features of this type and place. grouped: whether blocks are multiplied in one call."""
    cuts = GROUPED if grouped and device.type in GROUPED else LOOP
    low = f"{device.type}16"
    return cuts[low if dtype.itemsize == 2 and low in cuts else device.type]


class Tile(NamedTuple):
    """Pairs of one segment, and the height of their tile, padding included."""

    segment: int
    pairs: int
    height: int


class Chunk(NamedTuple):
    """Tiles after each other. in_rows, out_rows: of each tile its pairs, then padding, row 0; heights: of the tiles."""

    tiles: tuple[Tile, ...]
    heights: tuple[int, ...]
    in_rows: Int32[Tensor, " h"]
    out_rows: Int32[Tensor, " h"]


@dataclass(frozen=True)
class Block:
    """rows: the output rows; chunks: their pairs, segment after segment; heights: of the chunks;
    in_rows: of all chunks; ends: where each segment ends in them, or each tile, ``segments`` then being theirs;
    pair, start: ``pair[start[r]:start[r + 1]]`` are the places of row r's pairs among the tiles' rows.
    """

    rows: slice
    chunks: tuple[Chunk, ...]
    heights: tuple[int, ...]
    in_rows: Int32[Tensor, " n"]
    ends: Int32[Tensor, " s"]
    segments: Int64[Tensor, " s"] | None
    pair: Int32[Tensor, " b"]
    start: Int32[Tensor, " r+1"]

    def __len__(self) -> int:
        """Rows of all tiles."""
        return len(self.in_rows)


def cut_into_blocks(kernel_map: KernelMap, cut: Cut, threads: int) -> list[Block]:
    """Blocks with about the same number of pairs each, in the order of their output rows."""
    pairs, bags = torch.stack([kernel_map.in_rows, kernel_map.out_rows]), kernel_map.bags
    device = pairs.device
    count = _count(pairs.shape[1], cut, threads if device.type == "cpu" else 1)
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
        end = begin + int(padded[:, number].sum())
        chunks = tuple(_chunks(rows[:, begin:end], sizes[:, number].tolist(), cut))
        heights = tuple(sum(chunk.heights) for chunk in chunks)
        ends, segments = _ends(chunks, padded[:, number], device)
        start = bags.start[first : last + 1] - mine.start
        in_rows = rows[0, begin:end]
        blocks.append(Block(slice(first, last), chunks, heights, in_rows, ends, segments, pair[mine] - begin, start))
    return blocks


def _count(pairs: int, cut: Cut, threads: int) -> int:
    """Of blocks: as many for each thread, unless there is little to do."""
    return 1 if pairs < min(_FEW_PAIRS, cut.pairs) else -(-pairs // (cut.pairs * threads)) * threads


def _places(starts: Tensor, sizes: Tensor, device: torch.device) -> Int64[Tensor, " p"]:
    """Where each pair, segment after segment, comes to lie among all blocks' rows."""
    sizes = sizes.flatten().long()
    shift = starts.flatten() - (sizes.cumsum(0) - sizes)
    total = int(sizes.sum())
    moved = shift.to(device).repeat_interleave(sizes.to(device), output_size=total)
    return moved + torch.arange(total, device=device)


def _chunks(rows: Int32[Tensor, "2 p"], sizes: list[int], cut: Cut) -> Iterator[Chunk]:
    """Of one block, whose padded rows are ``rows``; sizes: pairs of each segment."""
    groups: list[list[Tile]] = []
    room = 0
    for tile in _tiles(sizes, cut):
        if tile.height > room:
            groups.append([])
            room = max(_CHUNK, tile.height)
        groups[-1].append(tile)
        room -= tile.height
    heights = [tuple(tile.height for tile in tiles) for tiles in groups]
    in_rows, out_rows = (side.split([sum(group) for group in heights]) for side in rows)
    for tiles, group, ins, outs in zip(groups, heights, in_rows, out_rows, strict=True):
        yield Chunk(tuple(tiles), group, ins, outs)


def _tiles(sizes: list[int], cut: Cut) -> Iterator[Tile]:
    for segment, size in enumerate(sizes):
        for done in range(0, size, cut.tile):
            pairs = min(cut.tile, size - done)
            yield Tile(segment, pairs, -(-pairs // cut.step) * cut.step)


def _ends(chunks: tuple[Chunk, ...], padded: Tensor, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """By segment, or by tile where a segment has several."""
    tiles = [tile for chunk in chunks for tile in chunk.tiles]
    if len(tiles) == int((padded > 0).sum()):
        return padded.cumsum(0).int().to(device), None
    ends = torch.tensor([tile.height for tile in tiles]).cumsum(0)
    return ends.int().to(device), torch.tensor([tile.segment for tile in tiles], device=device)
