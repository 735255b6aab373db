"""From a voxel's key to the row that holds its data, for millions of voxels and batches of thousands.

A hash table with buckets of sixteen slots, used a batch at a time. A sorted array is searched as fast, but has to be
copied for each batch that is added or removed: 80 MB for 5 million voxels. A bucket costs two cache lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt8

from ov3d_perception.mapping.thread_pool import WRITER

_SLOTS = 16  # a bucket
_KEYS = 10240  # found at a time: half a large scan
_LOAD = 0.75  # of the slots when all rows are taken: 7 bytes a voxel
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio (Knuth's multiplicative hashing)

_Compare = Callable[[Int64[np.ndarray, " k"], Int32[np.ndarray, " k"]], Bool[np.ndarray, " k"]]


class VoxelIndex:
    """Rows by key, for at most ``capacity`` of them.

    key_of: the key of each row; the caller's column, read when a slot's tag (8 bits of the hash) fits.
    """

    def __init__(self, capacity: int, key_of: Int64[np.ndarray, " r"]) -> None:
        self._key_of = key_of
        self._buckets = int(capacity / (_SLOTS * _LOAD)) + 2
        self._tag = np.zeros((self._buckets, _SLOTS), np.uint8)  # 0: a slot without a row
        self._row = np.zeros((self._buckets, _SLOTS), np.int32)
        self._passed = np.zeros(self._buckets, np.uint16)  # how many keys went on to a later bucket
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes of the table, full or not."""
        return self._tag.nbytes + self._row.nbytes + self._passed.nbytes

    def find(self, keys: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " m"]:
        """Row of each key, -1 where there is none."""
        rows = np.full(len(keys), -1, np.int64)

        def find(part: slice) -> None:
            some, found = keys[part], rows[part]
            for which, _, row, _ in self._walk(some, lambda which, row: self._key_of.take(row) == some.take(which)):
                found[which] = row

        WRITER.map_slices(len(keys), _KEYS, find)
        return rows

    def insert(self, keys: Int64[np.ndarray, " m"], rows: Int64[np.ndarray, " m"]) -> None:
        """Add keys that are distinct and not there yet, with distinct rows."""
        tags, kept = self._tag.reshape(-1), self._row.reshape(-1)
        bucket, tag = self._home(keys)
        while len(rows):
            place = bucket * _SLOTS + (self._tag.take(bucket, 0) == 0).argmax(1)
            full = tags.take(place) > 0
            fits = np.flatnonzero(~full)
            kept[place.take(fits)] = rows.take(fits)
            placed = fits[kept.take(place.take(fits)) == rows.take(fits)]  # of several keys for one slot, one
            tags[place.take(placed)] = tag.take(placed)
            np.add.at(self._passed, bucket[full], 1)
            bucket[full] = (bucket[full] + 1) % self._buckets
            waiting = np.ones(len(rows), bool)
            waiting[placed] = False
            bucket, tag, rows = bucket[waiting], tag[waiting], rows[waiting]
        self._count += len(keys)

    def remove(self, keys: Int64[np.ndarray, " m"], rows: Int64[np.ndarray, " m"]) -> None:
        """Take away keys that are there, with the rows that they have."""
        home, _ = self._home(keys)
        found = list(self._walk(keys, lambda which, row: row == rows.take(which)))
        for which, place, _, hops in found:
            self._tag.reshape(-1)[place] = 0
            for hop in range(hops):
                np.subtract.at(self._passed, (home.take(which) + hop) % self._buckets, 1)
        self._count -= len(keys)

    def _walk(
        self, keys: Int64[np.ndarray, " m"], fits: _Compare
    ) -> Iterator[tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, " k"], Int32[np.ndarray, " k"], int]]:
        """(indices of keys, their slots, their rows, number of buckets they passed), for the keys that are there.

        Slots are numbered through all buckets. ``np.take`` copies rows of 16 bytes at once.
        """
        (bucket, tag), kept = self._home(keys), self._row.reshape(-1)
        waiting, hops = np.arange(len(keys)), 0
        while len(waiting):
            near = np.flatnonzero(self._tag.take(bucket, 0) == tag[:, None])
            number = near // _SLOTS
            place = near + (bucket.take(number) - number) * _SLOTS
            row = kept.take(place)
            right = np.flatnonzero(fits(waiting.take(number), row))
            number = number.take(right)
            yield waiting.take(number), place.take(right), row.take(right), hops
            farther = self._passed.take(bucket) > 0
            farther[number] = False
            left = np.flatnonzero(farther)
            waiting, tag, hops = waiting.take(left), tag.take(left), hops + 1
            bucket = (bucket.take(left) + 1) % self._buckets

    def _home(self, keys: Int64[np.ndarray, " m"]) -> tuple[Int64[np.ndarray, " m"], UInt8[np.ndarray, " m"]]:
        """First bucket and tag (1..255) of each key."""
        mixed = keys.astype(np.uint64) * _ODD
        mixed ^= mixed >> np.uint64(29)
        mixed *= _ODD
        bucket = ((mixed >> np.uint64(32)) * np.uint64(self._buckets)) >> np.uint64(32)
        return bucket.astype(np.int64), ((mixed & np.uint64(0xFFFF)) % np.uint64(255) + np.uint64(1)).astype(np.uint8)
