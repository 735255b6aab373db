"""A bounded voxel map of point features, which can be asked any word later."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, replace
from threading import RLock

import numpy as np
from jaxtyping import Float32, Float64, Int, Int32, Int64, Shaped

from ov3d_perception.errors import IdentityError, MapError
from ov3d_perception.geometry.voxels import voxel_centres
from ov3d_perception.mapping.basis import basis_hash
from ov3d_perception.mapping.codebook import Codebook, CodeList
from ov3d_perception.mapping.free_space import REACH, passed_voxels
from ov3d_perception.mapping.integration import blend, observe
from ov3d_perception.mapping.quantisation import Projection, Quantiser, dequantise
from ov3d_perception.mapping.thread_pool import WRITER
from ov3d_perception.mapping.tiles import Tiles
from ov3d_perception.mapping.voxel_index import VoxelIndex
from ov3d_perception.mapping.voxel_table import (
    NEVER,
    ChunkFilter,
    MapChunk,
    MapState,
    VoxelRecords,
    VoxelTable,
    oldest_rows,
)
from ov3d_perception.types import EncoderIdentity

CHUNK = 65536  # rows that a reader takes at a time
EVICTIONS = ("oldest", "farthest")
_EVICT_FRACTION = 0.01  # of the map is evicted at once, so that eviction is rare
_COUNTED_ROWS = 1 << 18  # at most, to estimate how many voxels have each code
_SET_BACK_NS = 10_000_000_000  # a scan that is so much older than the newest one says that the clock was set back
_CLOCKS = 8  # that are told apart; what was seen by earlier ones counts as seen by one
_CODE_PERIOD = 4  # hits after which a voxel's code is checked again; a new voxel gets its code at once


class SemanticMap:
    """Voxels in one fixed frame, each with the mean of the point features z that fell into it.

    Each feature is scaled to ``|z W| = 1`` before it is averaged, so the mean of z stands for the mean of unit
    embeddings. A voxel counts at most ``weight_cap`` integrations; after that the mean forgets exponentially. A voxel
    that later scans look through is removed (see :meth:`integrate`). The map never holds more than ``max_voxels``: when
    it is full, it evicts a hundredth, those seen longest ago or those farthest from the sensor. Where the clock was set
    back (a scan more than 10 s older than the newest), all that was seen before counts as seen longer ago.

    A voxel takes less than 100 bytes: its mean at one byte a channel (:mod:`quantisation`), a :mod:`codebook` entry for
    scoring, key, stamps, weights, and its share of the index and the tiles.

    Safe for one writer and many readers. The writer holds the lock for one integration (tens of ms), readers for one
    chunk at a time (a few ms). Codes are looked up without the lock; voxels that match are read again with it.

    voxel_size: edge in metres. head: W (C, D) of the network. identity: the encoder whose space z W lies in.
    logit_scale: that encoder's factor from cosines to logits. frame_id: frame of the map. basis_id: hash of W. basis:
    (c, D), the coordinates that means are kept in. newest: stamp (ns) of the newest integration by the present clock,
    0 before the first. evicted: voxels dropped for the bound so far. eviction: "oldest" or "farthest".
    """

    def __init__(
        self,
        voxel_size: float,
        head: Float32[np.ndarray, "c d"],
        identity: EncoderIdentity,
        logit_scale: float = 100.0,
        max_voxels: int = 1_000_000,
        frame_id: str = "map",
        weight_cap: int = 50,
        eviction: str = "oldest",
    ) -> None:
        if eviction not in EVICTIONS:
            raise MapError(f"There is no eviction '{eviction}'", f"Choose {' or '.join(EVICTIONS)}")
        if not (0 < voxel_size < np.inf and max_voxels > 0):
            raise MapError(f"No map has {max_voxels} voxels of {voxel_size} m", "Give numbers above zero")
        self.voxel_size = float(voxel_size)
        self.identity = identity
        self.logit_scale = float(logit_scale)
        self.max_voxels = int(max_voxels)
        self.frame_id = frame_id
        self.eviction = eviction
        self.evicted = self.newest = 0
        self._cap = min(int(weight_cap), 255)
        self._projection = Projection(head)
        self.basis_id = basis_hash(self._projection.head)
        self._quantise = Quantiser(self._projection.channels)
        self._lock = RLock()
        self._revision = 0
        self._columns = VoxelTable(self.max_voxels, self._projection.channels)
        self._forget()

    def _forget(self) -> None:
        """Empty everything that is derived from the voxels."""
        self._used = 0  # rows below this have been in use
        self._free = np.empty(0, np.int64)  # of these, the ones free again
        self._index = VoxelIndex(self.max_voxels, self._columns.key)
        self._tiles = Tiles(self.voxel_size)
        self._codebook = Codebook(self._projection.channels)
        self._set_back = deque[int](maxlen=_CLOCKS - 1)  # revisions at which the clock was set back, the newest last

    def __len__(self) -> int:
        return len(self._index)

    @property
    def head(self) -> Float32[np.ndarray, "c d"]:
        """W of the network whose features these are."""
        return self._projection.head

    @property
    def basis(self) -> Float32[np.ndarray, "k d"]:
        """Orthonormal rows: a voxel's feature @ basis is its mean embedding."""
        return self._projection.basis

    @property
    def revision(self) -> int:
        """Number of integrations so far."""
        return self._revision

    @property
    def nbytes(self) -> int:
        """Bytes in use: rows written so far, index, tiles and codebook."""
        with self._lock:
            helpers = self._index.nbytes + self._tiles.nbytes + self._codebook.nbytes + self._free.nbytes
            return self._columns.bytes_a_row * self._used + helpers

    # -- writing -----------------------------------------------------------------------------------------------------

    def integrate(
        self,
        centres: Float32[np.ndarray, "v 3"],
        features: Float32[np.ndarray, "v c"],
        stamp: int,
        sensor: Float64[np.ndarray, " 3"] | None = None,
    ) -> None:
        """Add voxel features whose ``centres`` are in the map's frame (metres), seen at ``stamp`` (ns).

        Several features in one map voxel (a turned grid) count together as one observation. Rows that are not finite
        are skipped. sensor: position of the sensor in the map's frame. With it, voxels that the scan's rays pass count
        a miss; those missed at least twice and as often as they were hit are removed, so that a car that drives away
        does not stay. Raises MapError if the number of channels is not that of the head.
        """
        if features.shape != (len(centres), len(self.head)):
            raise MapError(
                f"Features of shape {features.shape} for {len(centres)} voxels do not fit a map of {len(self.head)} "
                "channels",
                "Give the map the basis of the network that makes the features",
            )
        looking = self._look(centres, np.asarray(sensor, np.float64)) if sensor is not None else None
        keys, means = observe(self._projection, self.voxel_size, centres, features)
        if not len(keys):
            return
        with self._lock:
            self._revision += 1
            if stamp < self.newest - _SET_BACK_NS:
                self._set_back.append(self._revision)
                self.newest = int(stamp)
            self.newest = max(self.newest, int(stamp))
            rows = self._merge(keys, means, 1, int(stamp), sensor)
            if looking is not None:
                self._clear(rows[rows >= 0], *looking())

    def merge(self, records: VoxelRecords) -> None:
        """Add voxels of a map with this one's head, voxel size and frame; those of both become weighted means.

        Keys must be distinct. New voxels are copied to the bit. Beyond the bound, voxels are evicted as usual.
        """
        order = np.argsort(records.key)
        key, weight = records.key[order], records.weight[order].astype(np.int64)
        means = dequantise(records.features[order], records.factor[order])
        with self._lock:
            self._revision += 1
            self.newest = max(self.newest, int(records.last_seen.max(initial=0)))
            new = self._index.find(key) < 0
            rows = self._merge(key, means, weight, records.last_seen[order], None)
            old, missed = ~new & (rows >= 0), self._columns.missed
            missed[rows[old]] = np.minimum(missed[rows[old]], records.missed[order[old]])
            new &= rows >= 0
            for name in ("features", "factor", "missed"):
                getattr(self._columns, name)[rows[new]] = getattr(records, name)[order[new]]

    def drop_older(self, stamp: int) -> int:
        """Forget voxels last seen before ``stamp`` (ns); returns how many."""
        with self._lock:
            old = np.flatnonzero(self._columns.last_seen[: self._used] < stamp)
            self._remove(old)
        return len(old)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._columns.weight[: self._used] = self._columns.code[: self._used] = 0
            self._forget()

    # -- reading -----------------------------------------------------------------------------------------------------

    def chunks(self, since: int = 0) -> Iterator[MapChunk]:
        """All voxels changed after revision ``since``, in chunks of at most 65536."""
        for start in range(0, self._used, CHUNK):
            with self._lock:
                rows = self._taken_rows(start, start + CHUNK)
                chunk = self.take(rows[self._columns.changed[rows] > since])
            if len(chunk.row):
                yield chunk

    def take(
        self, rows: Int64[np.ndarray, " n"], *, keep: ChunkFilter | None = None, features: bool = True
    ) -> MapChunk:
        """The voxels of these rows, less those that have gone meanwhile or are not ``keep`` (which is asked before
        any feature is read); without features, those have no columns."""
        columns = self._columns
        with self._lock:
            rows = rows.compress(np.take(columns.weight, rows) > 0)
            others = (np.take(column, rows) for column in (columns.last_seen, columns.weight, columns.code))
            chunk = MapChunk(rows, np.take(columns.key, rows), np.empty((0, self._projection.channels), "f4"), *others)
            if keep is not None:
                kept = keep(chunk)
                chunk = chunk if kept.all() else chunk.of(kept)
            read = chunk.row if features else chunk.row[:0]
            values, factor = np.take(columns.features, read, axis=0), np.take(columns.factor, read)
        return replace(chunk, features=dequantise(values, factor))

    def occupied(self) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """Rows and keys of all voxels."""
        with self._lock:
            rows = self._taken_rows()
            return rows, self._columns.key[rows]

    def observed(self, times: int) -> int:
        """How many voxels have been hit by at least so many integrations (at most ``weight_cap`` are counted)."""
        with self._lock:
            return int(np.count_nonzero(self._columns.weight[: self._used] >= max(1, min(times, self._cap - 1))))

    def codes(self) -> CodeList:
        """The codebook's entries, for scoring."""
        with self._lock:
            book = self._codebook
            return CodeList(book.vectors(), book.spread.copy(), book.looseness(), book.empty())

    def look_up(self, table: Shaped[np.ndarray, " k"]) -> Shaped[np.ndarray, " r"]:
        """table[code] for each row in use, with or without a voxel. Takes no lock: a row that changes meanwhile gives
        its old or its new value."""
        return self._columns.look_up(table, self._used)

    def count_by_code(self, codes: int) -> Float64[np.ndarray, " k"]:
        """About how many voxels have each code; estimated from a sample where the map is large."""
        step = max(1, self._used // _COUNTED_ROWS)
        return step * np.bincount(self._columns.code[: self._used : step], minlength=codes).astype(np.float64)

    def centres(self, keys: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n 3"]:
        """Voxel centres in the map's frame, metres."""
        return voxel_centres(keys, self.voxel_size).astype(np.float32)

    def require(self, identity: EncoderIdentity, what: str) -> None:
        """Raise IdentityError unless ``what`` (a text, a basis) belongs to the encoder of the map's features."""
        if not self.identity.compatible(identity):
            raise IdentityError(
                f"The map's features belong to {self.identity}, the {what} to {identity}",
                "Use the text source of the map's encoder, or start a new map",
            )

    # -- to and from files -------------------------------------------------------------------------------------------

    def state(self) -> MapState:
        """All that the map is, besides its voxels."""
        with self._lock:
            fixed = self.voxel_size, self.head, self.identity, self.logit_scale, self.frame_id
            return MapState(*fixed, self.max_voxels, self._cap, self.eviction, self.newest, len(self))

    def codebook(self) -> dict[str, np.ndarray]:
        """The codebook's arrays, valid for all records taken before, too."""
        with self._lock:
            return self._codebook.arrays()

    def records(self) -> Iterator[VoxelRecords]:
        """All voxels as they are stored, in chunks of at most 65536; the lock is free between two chunks.

        Each chunk is consistent in itself. A scan that is integrated meanwhile may be in them in part. A voxel that is
        removed and added again meanwhile may come twice, in two chunks.
        """
        names = [field.name for field in fields(VoxelRecords)]
        for start in range(0, self._used, CHUNK):
            with self._lock:
                rows = self._taken_rows(start, start + CHUNK)
                found = VoxelRecords(*(getattr(self._columns, name).take(rows, 0) for name in names))
            if len(found):
                yield found

    @classmethod
    def from_records(
        cls, state: MapState, records: Iterable[VoxelRecords], book: Mapping[str, np.ndarray] | None = None
    ) -> SemanticMap:
        """A map from :meth:`state`, :meth:`records` and :meth:`codebook`. Without the last, codes are computed anew:
        that takes longer, and scores by code differ a little.
        """
        limits = state.max_voxels, state.frame_id, state.weight_cap, state.eviction
        result = cls(state.voxel_size, state.head, state.identity, state.logit_scale, *limits)
        if book is not None:
            result._codebook = Codebook.from_arrays(book)
        for chunk in records:
            result.merge(chunk) if book is None else result._put(chunk)
        result.newest = max(result.newest, state.newest)
        return result

    # -- with the lock held ------------------------------------------------------------------------------------------

    def _put(self, records: VoxelRecords) -> None:
        """Insert voxels whose codes belong to this map's codebook. Existing voxels stay as they are."""
        with self._lock:
            self._revision += 1
            records = records.of(self._index.find(records.key) < 0)
            rows = self._insert(records.key, None)
            records, rows = records.of(rows >= 0), rows[rows >= 0]
            for field in fields(records):
                getattr(self._columns, field.name)[rows] = getattr(records, field.name)
            self._columns.changed[rows] = self._revision
            self.newest = max(self.newest, int(records.last_seen.max(initial=0)))

    def _merge(
        self,
        keys: Int64[np.ndarray, " m"],
        means: Float32[np.ndarray, "m c"],
        weight: int | Int64[np.ndarray, " m"],
        stamp: int | Int64[np.ndarray, " m"],
        sensor: Float64[np.ndarray, " 3"] | None,
    ) -> Int64[np.ndarray, " m"]:
        """Average means into the voxels of distinct keys; their rows, -1 for those beyond the bound."""
        columns = self._columns
        rows, stamps = self._index.find(keys), np.broadcast_to(np.asarray(stamp, np.int64), keys.shape)
        weights = np.broadcast_to(np.asarray(weight, np.float32), keys.shape)
        new = rows < 0
        self._date(rows[~new], stamps[~new])
        rows[new] = self._insert(keys[new], sensor)
        rows[columns.key[rows] != keys] = -1  # evicted for the new ones
        there = np.flatnonzero(rows >= 0)
        at, before = rows[there], columns.weight[rows[there]].astype(np.float32)
        share = weights[there] / (before + weights[there])
        unit = blend(columns, at, means.take(there, 0), share, self._quantise, self._revision)
        columns.weight[at] = np.minimum(before + weights[there], self._cap - 1)
        self._date(at, stamps[there])
        due = np.flatnonzero((before == 0) | ((at + self._revision) % _CODE_PERIOD == 0))
        loose = due[~self._codebook.fits(unit.take(due, 0), columns.code[at[due]])]
        columns.code[at[loose]] = self._codebook.encode(unit.take(loose, 0))
        return rows

    def _look(
        self, centres: Float32[np.ndarray, "v 3"], sensor: Float64[np.ndarray, " 3"]
    ) -> Callable[[], tuple[Int32[np.ndarray, " m"], Int64[np.ndarray, " m"]]]:
        """Start to look for the voxels that rays from the sensor to the centres pass; the result is their rows and
        keys.

        It runs without the lock: the keys tell later whether a row still holds the same voxel.
        """

        def look() -> tuple[Int32[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
            keys = self._columns.key.take(near)
            through = passed_voxels(keys, self.voxel_size, sensor, centres)
            return near.take(through), keys.take(through)

        with self._lock:
            near = self._tiles.around(sensor, REACH)
        return WRITER.start(look)

    def _clear(
        self, hit: Int64[np.ndarray, " k"], through: Int32[np.ndarray, " m"], keys: Int64[np.ndarray, " m"]
    ) -> None:
        """Count a miss for each voxel that was passed and not hit; remove those missed too often."""
        columns = self._columns
        columns.missed[hit] -= np.minimum(columns.missed[hit], 1)
        there = (columns.changed[through] != self._revision) & (columns.weight[through] > 0)
        through = through[there & (columns.key[through] == keys)]
        missed = columns.missed[through]
        missed += missed < np.iinfo(np.uint8).max
        columns.missed[through] = missed
        self._remove(through[missed >= np.maximum(2, columns.weight[through])])

    def _insert(
        self, keys: Int64[np.ndarray, " m"], sensor: Float64[np.ndarray, " 3"] | None
    ) -> Int64[np.ndarray, " m"]:
        """Rows for new voxels, evicting if need be; -1 for those beyond the bound even then."""
        excess = len(self) + len(keys) - self.max_voxels
        if excess > 0:
            self._evict(min(max(excess, int(self.max_voxels * _EVICT_FRACTION)), len(self)), sensor)
        accepted = keys[: self.max_voxels - len(self)]
        rows = np.full(len(keys), -1, np.int64)
        rows[: len(accepted)] = taken = self._take_rows(len(accepted))
        columns = self._columns
        columns.key[taken] = accepted
        columns.missed[taken] = columns.weight[taken] = columns.last_seen[taken] = 0
        self._index.insert(accepted, taken)
        self._tiles.add(accepted, taken)
        return rows

    def _evict(self, count: int, sensor: Float64[np.ndarray, " 3"] | None) -> None:
        if self.eviction == "farthest" and sensor is not None:
            gone = self._tiles.farthest(sensor, count)[:count].astype(np.int64)
        else:
            gone = self._oldest(count)
        self._remove(gone)
        self.evicted += len(gone)

    def _date(self, rows: Int64[np.ndarray, " m"], stamps: Int64[np.ndarray, " m"]) -> None:
        """These voxels were seen now, at these stamps. What a clock said that was set back since no longer counts."""
        columns, since = self._columns, self._set_back[-1] if self._set_back else 0
        before = np.where(columns.changed[rows] < since, 0, columns.last_seen[rows])
        columns.last_seen[rows] = np.maximum(before, stamps)
        columns.changed[rows] = self._revision

    def _oldest(self, count: int) -> Int64[np.ndarray, " count"]:
        """Rows of the ``count`` voxels seen longest ago: all by an earlier clock before any by a later one."""
        seen, changed = self._columns.last_seen[: self._used], self._columns.changed[: self._used]
        if not self._set_back:
            return oldest_rows(seen, count)
        gone, first = [np.empty(0, np.int64)], 0
        for until in (*self._set_back, self._revision + 1):
            rows = np.flatnonzero((first <= changed) & (changed < until) & (seen != NEVER))
            gone.append(rows[oldest_rows(seen[rows], min(count, len(rows)))])
            count, first = count - len(gone[-1]), until
        return np.concatenate(gone)

    def _remove(self, rows: Int[np.ndarray, " m"]) -> None:
        if not len(rows):
            return
        columns = self._columns
        keys = columns.key[rows]
        self._index.remove(keys, rows.astype(np.int64))
        columns.key[rows], columns.last_seen[rows] = -1, NEVER
        columns.weight[rows] = columns.code[rows] = 0
        self._tiles.discard(keys, columns.weight)
        self._free = np.concatenate([self._free, rows])

    def _take_rows(self, count: int) -> Int64[np.ndarray, " count"]:
        reused = self._free[len(self._free) - min(count, len(self._free)) :]
        self._free = self._free[: len(self._free) - len(reused)]
        fresh = count - len(reused)
        rows = np.concatenate([reused, np.arange(self._used, self._used + fresh)])
        self._used += fresh
        return rows

    def _taken_rows(self, start: int = 0, stop: int | None = None) -> Int64[np.ndarray, " n"]:
        stop = self._used if stop is None else min(stop, self._used)
        return start + np.flatnonzero(self._columns.weight[start:stop] > 0)
