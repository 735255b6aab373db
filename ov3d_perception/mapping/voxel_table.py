"""The voxels' data as one array a column, and the parts of it that readers get."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import cv2
import numpy as np
from jaxtyping import Bool, Float16, Float32, Int8, Int64, Shaped, UInt8, UInt16, UInt32

from ov3d_perception.types import EncoderIdentity

_WIDTH = 4096  # codes that are looked up at a time
NEVER = np.iinfo(np.int64).max  # the stamp of a free row: it is never the oldest
_SAMPLE = 16384  # stamps from which an age is estimated


@dataclass(frozen=True)
class MapChunk:
    """Some voxels of a map, consistent in themselves. row: where they are stored, stable while they live.

    features: means of unit embeddings in the coordinates of the map's ``basis``; last_seen: stamps in ns; weight: in
    how many integrations a voxel was hit, up to the map's cap; code: the entry of the codebook that stands for it.
    """

    row: Int64[np.ndarray, " n"]
    key: Int64[np.ndarray, " n"]
    features: Float32[np.ndarray, "f c"]
    last_seen: Int64[np.ndarray, " n"]
    weight: UInt8[np.ndarray, " n"]
    code: UInt16[np.ndarray, " n"]

    def of(self, kept: Bool[np.ndarray, " n"]) -> MapChunk:
        """Some of the voxels."""
        features = self.features[kept] if len(self.features) else self.features
        others = self.last_seen[kept], self.weight[kept], self.code[kept]
        return MapChunk(self.row[kept], self.key[kept], features, *others)


ChunkFilter = Callable[[MapChunk], Bool[np.ndarray, " n"]]  # True for the voxels of a chunk to keep


@dataclass(frozen=True)
class VoxelRecords:
    """Voxels as they are stored, arrays of one length.

    key: :mod:`geometry.voxels`; features * factor: mean of unit embeddings in the coordinates of the map's basis;
    weight (1..254): number of integrations in the mean; missed: scans that looked through the voxel; last_seen: stamps
    in ns; code: in the codebook of the map that they come from.
    """

    key: Int64[np.ndarray, " n"]
    features: Int8[np.ndarray, "n c"]
    factor: Float16[np.ndarray, " n"]
    weight: UInt8[np.ndarray, " n"]
    missed: UInt8[np.ndarray, " n"]
    last_seen: Int64[np.ndarray, " n"]
    code: UInt16[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.key)

    def of(self, kept: Bool[np.ndarray, " n"] | Int64[np.ndarray, " m"]) -> VoxelRecords:
        """Some of the voxels, in the order of ``kept``."""
        return VoxelRecords(*(getattr(self, field.name)[kept] for field in fields(self)))


@dataclass(frozen=True)
class MapState:
    """All that a map is, besides its voxels. head: W (C, D) of the network."""

    voxel_size: float
    head: Float32[np.ndarray, "c d"]
    identity: EncoderIdentity
    logit_scale: float
    frame_id: str
    max_voxels: int
    weight_cap: int
    eviction: str
    newest: int
    voxels: int


class VoxelTable:
    """One row a voxel. A row with weight 0 is free; its code is 0 then, and its last_seen NEVER once it has been used.

    All rows are reserved at once and take memory only once written to, so nothing is ever copied.
    """

    def __init__(self, rows: int, channels: int) -> None:
        lines = -(-rows // _WIDTH) * _WIDTH
        self.key: Int64[np.ndarray, " r"] = np.zeros(rows, np.int64)
        self.features: Int8[np.ndarray, "r c"] = np.zeros((rows, channels), np.int8)
        self.factor: Float16[np.ndarray, " r"] = np.zeros(rows, np.float16)
        self.code: UInt16[np.ndarray, " l"] = np.zeros(lines, np.uint16)
        self.weight: UInt8[np.ndarray, " r"] = np.zeros(rows, np.uint8)
        self.missed: UInt8[np.ndarray, " r"] = np.zeros(rows, np.uint8)
        self.last_seen: Int64[np.ndarray, " r"] = np.zeros(rows, np.int64)
        self.changed: UInt32[np.ndarray, " r"] = np.zeros(rows, np.uint32)

    @property
    def bytes_a_row(self) -> int:
        """Bytes that a voxel takes."""
        columns = (self.key, self.features, self.factor, self.code, self.weight, self.missed, self.last_seen)
        return sum(column[:1].nbytes for column in (*columns, self.changed))

    def look_up(self, table: Shaped[np.ndarray, " k"], used: int) -> Shaped[np.ndarray, " r"]:
        """table[code] of the first ``used`` rows. table: by code, at most 65536 entries."""
        whole = np.zeros(1 << 16, table.dtype)
        whole[: len(table)] = table
        lines = self.code[: -(-used // _WIDTH) * _WIDTH].reshape(-1, _WIDTH)
        if not used:
            return whole[:0]
        if _LOOKS_UP_16_BITS:
            return np.asarray(cv2.LUT(lines, whole)).reshape(-1)[:used]
        found = np.empty(lines.shape, table.dtype)
        for start in range(0, len(lines), 4):  # small enough for np.take's copy of the indices to stay in the cache
            np.take(whole, lines[start : start + 4], out=found[start : start + 4], mode="clip")
        return found.reshape(-1)[:used]


def oldest_rows(seen: Int64[np.ndarray, " n"], count: int) -> Int64[np.ndarray, " count"]:
    """Indices of the ``count`` smallest stamps. A sample gives a bound first, so that only few stamps are sorted."""
    sample = np.sort(seen[:: len(seen) // _SAMPLE + 1])
    reach, candidates = count / max(len(seen), 1), np.empty(0, np.int64)
    while len(candidates) < count:
        reach = 1.2 * reach + 0.005
        limit = sample[min(int(reach * len(sample)), len(sample) - 1)] if reach < 1 else NEVER
        candidates = np.flatnonzero(seen <= limit)
    return candidates[np.argpartition(seen[candidates], count - 1)[:count]] if count else candidates[:0]


def _looks_up_16_bits() -> bool:
    """Whether this OpenCV's LUT takes 16-bit numbers (5.0 does): 2 ms for 5 million, five times as fast as numpy."""
    try:
        return bool(np.asarray(cv2.LUT(np.full((1, 1), 300, np.uint16), np.arange(1 << 16, dtype=np.float32))) == 300)
    except cv2.error:
        return False


_LOOKS_UP_16_BITS = _looks_up_16_bits()
