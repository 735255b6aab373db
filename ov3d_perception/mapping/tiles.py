"""Voxels by square tile of the ground, to find those near to the robot and those far from it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int32, Int64, UInt8

from ov3d_perception.geometry.voxels import BITS, HALF, MASK

_EDGE = 8.0  # metres, about; a power of two voxels
_GROWTH = 1.3


class Tiles:
    """Rows of voxels by square tile of the ground. voxel_size: metres."""

    def __init__(self, voxel_size: float) -> None:
        self._voxel_size = voxel_size
        self._shift = int(np.clip(round(np.log2(_EDGE / voxel_size)), 0, BITS - 1))
        self._rows: dict[int, Int32[np.ndarray, " c"]] = {}  # with room for more
        self._count: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def nbytes(self) -> int:
        """Bytes of the rows' numbers, room for more included."""
        return sum(rows.nbytes for rows in self._rows.values())

    def add(self, keys: Int64[np.ndarray, " m"], rows: Int64[np.ndarray, " m"]) -> None:
        """Add rows to the tiles of their keys."""
        tiles = self._tile(keys)
        order = np.argsort(tiles, kind="stable")
        tiles, rows = tiles[order], rows[order]
        first = np.flatnonzero(np.diff(tiles, prepend=-1))
        for start, stop in zip(first.tolist(), np.append(first, len(tiles))[1:].tolist(), strict=True):
            self._append(int(tiles[start]), rows[start:stop])

    def discard(self, keys: Int64[np.ndarray, " m"], weight: UInt8[np.ndarray, " r"]) -> None:
        """Forget the rows of weight 0 in the tiles of the keys."""
        for tile in np.unique(self._tile(keys)).tolist():
            rows = self._rows[tile][: self._count[tile]]
            kept = rows[weight[rows] > 0]
            if len(kept):
                self._rows[tile], self._count[tile] = kept, len(kept)
            else:
                del self._rows[tile], self._count[tile]

    def around(self, xyz: Float[np.ndarray, " 3"], reach: float) -> Int32[np.ndarray, " m"]:
        """Rows of all tiles that come within ``reach`` of a place, horizontally. Metres."""
        edge, most = 1 << self._shift, reach / self._voxel_size
        tiles, away = [], []
        for place in np.asarray(xyz, np.float64)[:2] / self._voxel_size + HALF:
            low, high = max(int((place - most) // edge), 0), min(int((place + most) // edge), MASK >> self._shift)
            tile = np.arange(low, high + 1)
            tiles.append(tile)
            away.append(np.maximum(tile * edge - place, place - (tile + 1) * edge).clip(0))
        (x, y), near = tiles, np.hypot(away[0][:, None], away[1]) <= most
        wanted = ((x[:, None] << BITS) | y)[near].tolist()
        return self._concatenated([tile for tile in wanted if tile in self._rows])

    def farthest(self, xyz: Float[np.ndarray, " 3"], count: int) -> Int32[np.ndarray, " m"]:
        """Rows of the tiles farthest from a place: as many tiles as hold ``count`` rows, the farthest first."""
        tiles = np.fromiter(self._rows, np.int64, len(self._rows))
        centre = (np.stack([tiles >> BITS, tiles & MASK], 1) + 0.5) * (1 << self._shift) - HALF
        order = np.argsort(-np.linalg.norm(centre * self._voxel_size - xyz[:2], axis=1), kind="stable")
        held = np.cumsum([self._count[tile] for tile in tiles[order].tolist()])
        return self._concatenated(tiles[order][: int(np.searchsorted(held, count)) + 1].tolist())

    def _concatenated(self, tiles: list[int]) -> Int32[np.ndarray, " m"]:
        parts = [self._rows[tile][: self._count[tile]] for tile in tiles]
        return np.concatenate(parts) if parts else np.empty(0, np.int32)

    def _append(self, tile: int, rows: Int64[np.ndarray, " m"]) -> None:
        held, count = self._rows.get(tile, np.empty(0, np.int32)), self._count.get(tile, 0)
        total = count + len(rows)
        if total > len(held):
            grown = np.empty(int(total * _GROWTH) + 8, np.int32)
            grown[:count] = held[:count]
            self._rows[tile] = held = grown
        held[count:total] = rows
        self._count[tile] = total

    def _tile(self, keys: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " m"]:
        x = keys >> (2 * BITS + self._shift)
        return (x << BITS) | (((keys >> BITS) & MASK) >> self._shift)
