"""A bounded voxel map of narrow features: what the robot has seen, kept so that any word can be asked later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from threading import RLock

import numpy as np
from jaxtyping import Float16, Float32, Float64, Int64, UInt8

from ov3d_perception.errors import IdentityError, PointCloudError
from ov3d_perception.geometry.voxels import voxel_centres, voxel_coordinates, voxel_keys
from ov3d_perception.mapping.free_space import REACH, seen_through
from ov3d_perception.mapping.voxel_index import VoxelIndex
from ov3d_perception.types import EncoderIdentity

_CHUNK = 65536
_EVICT_FRACTION = 0.05  # room made at once when the map is full, so that eviction is rare


@dataclass(frozen=True)
class MapChunk:
    """Some voxels of a map, consistent in themselves. row: where they are stored, stable while they live.

    features: means of unit-scaled narrow features; last_seen: stamps in ns; revision: number of the integration that
    last changed a voxel; weight: in how many integrations it was hit, up to the map's cap.
    """

    row: Int64[np.ndarray, " n"]
    key: Int64[np.ndarray, " n"]
    features: Float16[np.ndarray, "n c"]
    last_seen: Int64[np.ndarray, " n"]
    revision: Int64[np.ndarray, " n"]
    weight: Float32[np.ndarray, " n"]


class SemanticMap:
    """Voxels in one fixed frame, each with the mean of the narrow features z that hit it.

    Each feature is scaled to ``|z W| = 1`` before it is averaged, so the mean of z stands for the mean of unit
    embeddings. A voxel counts at most ``weight_cap`` integrations: after that the mean forgets exponentially and
    follows what changes. A voxel that later scans look through goes (see :meth:`integrate`). Never more than
    ``max_voxels``: when full, those seen longest ago are dropped first.

    Safe for one writer and many readers: readers take chunks, and hold the lock for one chunk at a time.

    voxel_size: edge in metres. basis: W (C, D) of the head. identity: the encoder whose space z W lies in.
    logit_scale: that encoder's factor from cosines to logits. frame_id: frame of the map.
    newest: stamp (ns) of the newest integration, 0 before the first. evicted: voxels dropped for the bound so far.
    """

    def __init__(
        self,
        voxel_size: float,
        basis: Float32[np.ndarray, "c d"],
        identity: EncoderIdentity,
        logit_scale: float = 100.0,
        max_voxels: int = 1_000_000,
        frame_id: str = "map",
        weight_cap: int = 50,
    ) -> None:
        self.voxel_size = float(voxel_size)
        self.basis = np.asarray(basis, np.float32)
        self.identity = identity
        self.logit_scale = float(logit_scale)
        self.max_voxels = int(max_voxels)
        self.frame_id = frame_id
        self.evicted = 0
        self.newest = 0
        self._gram = self.basis @ self.basis.T
        self._cap = int(weight_cap)
        self._index = VoxelIndex()
        self._lock = RLock()
        self._revision = 0
        self._used = 0  # rows below this have been in use
        self._free = np.empty(0, np.int64)  # of these, the ones given back
        # Zeros are backed by memory only once written to, so the whole bound is reserved and nothing is ever copied.
        self._features: Float16[np.ndarray, "r c"] = np.zeros((self.max_voxels, len(self.basis)), np.float16)
        self._key: Int64[np.ndarray, " r"] = np.full(self.max_voxels, -1, np.int64)
        self._weight: Float32[np.ndarray, " r"] = np.zeros(self.max_voxels, np.float32)
        self._missed: UInt8[np.ndarray, " r"] = np.zeros(self.max_voxels, np.uint8)
        self._last_seen: Int64[np.ndarray, " r"] = np.zeros(self.max_voxels, np.int64)
        self._changed: Int64[np.ndarray, " r"] = np.zeros(self.max_voxels, np.int64)

    def __len__(self) -> int:
        return len(self._index)

    @property
    def revision(self) -> int:
        """Number of integrations so far."""
        return self._revision

    @property
    def nbytes(self) -> int:
        """Bytes in use: the rows written to so far, and the index."""
        rows = (self._features, self._key, self._weight, self._missed, self._last_seen, self._changed)
        return sum(array[:1].nbytes for array in rows) * self._used + 16 * len(self._index) + self._free.nbytes

    def integrate(
        self,
        centres: Float32[np.ndarray, "v 3"],
        features: Float32[np.ndarray, "v c"],
        stamp: int,
        sensor: Float64[np.ndarray, " 3"] | None = None,
    ) -> None:
        """Add voxel features whose ``centres`` are in the map's frame (metres), seen at ``stamp`` (ns).

        Several features in one map voxel (a turned grid) count together as one observation. Rows that are not finite
        are left out. sensor: where the scan was taken from, in the map's frame; with it, voxels that the scan's rays
        pass through are missed, and those missed at least twice and as often as they were hit are forgotten: what has
        driven away does not stay. Raises PointCloudError if the number of channels is not that of the basis.
        """
        if features.shape != (len(centres), len(self.basis)):
            raise PointCloudError(
                f"Features of shape {features.shape} for {len(centres)} voxels do not fit a map of {len(self.basis)} "
                "channels",
                "Give the map the basis of the network that makes the features",
            )
        keys, means = self._average(centres, features)
        if not len(keys):
            return
        with self._lock:
            self._revision += 1
            self.newest = max(self.newest, int(stamp))
            rows = self._index.find(keys)
            new = rows < 0
            self._last_seen[rows[~new]] = np.maximum(self._last_seen[rows[~new]], stamp)
            rows[new] = self._insert(keys[new])
            there = (rows >= 0) & (self._key[rows] == keys)  # what had to make room for the new ones is not
            rows, means = rows[there], means[there]
            weight = self._weight[rows]
            old = self._features[rows].astype(np.float32)
            old += (means - old) / (weight[:, None] + np.float32(1))
            self._features[rows] = old
            self._weight[rows] = np.minimum(weight + 1, self._cap - 1)
            self._last_seen[rows] = np.maximum(self._last_seen[rows], stamp)
            self._changed[rows] = self._revision
            if sensor is not None:
                self._clear(rows, centres, sensor)

    def drop_older(self, stamp: int) -> int:
        """Forget voxels last seen before ``stamp`` (ns); returns how many."""
        with self._lock:
            rows = self._index.rows
            old = rows[self._last_seen[rows] < stamp]
            self._remove(old)
        return len(old)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._remove(self._index.rows)

    def chunks(self, since: int = 0) -> Iterator[MapChunk]:
        """All voxels changed after revision ``since``, in chunks of at most 65536."""
        start = 0
        while start < self._used:
            with self._lock:
                rows = start + np.flatnonzero(
                    (self._key[start : start + _CHUNK] >= 0) & (self._changed[start : start + _CHUNK] > since)
                )
                columns = (self._key, self._features, self._last_seen, self._changed, self._weight)
                chunk = MapChunk(rows, *(column[rows] for column in columns))
            start += _CHUNK
            if len(rows):
                yield chunk

    def occupied(self) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """Rows and keys of all voxels, in the order of the keys."""
        with self._lock:
            rows = self._index.rows
            return rows, self._key[rows]

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

    def _clear(
        self, hit: Int64[np.ndarray, " k"], centres: Float32[np.ndarray, "v 3"], sensor: Float64[np.ndarray, " 3"]
    ) -> None:
        """Count a miss for each voxel that the rays from the sensor to ``centres`` pass; remove what is gone."""
        self._missed[hit] -= np.minimum(self._missed[hit], 1)
        reach = np.array([[-REACH], [REACH]]) + sensor[0]
        edges = voxel_coordinates(np.hstack([reach, np.zeros((2, 2))]), self.voxel_size)[:, 0]
        keys, rows = self._index.slab(*edges)
        others = self._changed[rows] < self._revision
        keys, rows = keys[others], rows[others]
        places = voxel_centres(keys, self.voxel_size) - sensor
        near = (np.abs(places) < REACH).all(1)
        rows, places = rows[near], places[near]
        passed = rows[seen_through(places, self.voxel_size, centres[np.isfinite(centres).all(1)] - sensor)]
        self._missed[passed] += self._missed[passed] < np.iinfo(np.uint8).max
        self._remove(passed[self._missed[passed] >= np.maximum(2, self._weight[passed])])

    def _average(
        self, centres: Float32[np.ndarray, "v 3"], features: Float32[np.ndarray, "v c"]
    ) -> tuple[Int64[np.ndarray, " k"], Float32[np.ndarray, "k c"]]:
        """Distinct voxel keys, ascending, and the mean unit-scaled feature of each."""
        length = np.sqrt(np.maximum(np.einsum("vc,vc->v", features @ self._gram, features), 0))
        good = np.isfinite(length) & (length > 1e-9) & np.isfinite(centres).all(1)
        if not good.all():
            centres, features, length = centres[good], features[good], length[good]
        keys = voxel_keys(centres, self.voxel_size)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        unit = features[order] / length[order, None]
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        count = np.diff(first, append=len(keys))
        mean = unit[first]
        for nth in range(1, count.max(initial=1)):  # a handful: how many features fall into one voxel
            shared = np.flatnonzero(count > nth)
            mean[shared] += unit[first[shared] + nth]
        return keys[first], mean / count[:, None].astype(np.float32)

    def _insert(self, keys: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " m"]:
        """Rows for new voxels, evicting the oldest if need be; -1 for those beyond the bound even then."""
        excess = len(self._index) + len(keys) - self.max_voxels
        if excess > 0:
            self._evict(max(excess, int(self.max_voxels * _EVICT_FRACTION)))
        accepted = keys[: self.max_voxels - len(self._index)]
        rows = np.full(len(keys), -1, np.int64)
        rows[: len(accepted)] = self._take_rows(len(accepted))
        taken = rows[: len(accepted)]
        self._key[taken] = accepted
        self._weight[taken] = 0
        self._missed[taken] = 0
        self._last_seen[taken] = 0
        self._index.insert(accepted, taken)
        return rows

    def _evict(self, count: int) -> None:
        rows = self._index.rows
        count = min(count, len(rows))
        if count:
            oldest = rows[np.argpartition(self._last_seen[rows], count - 1)[:count]]
            self._remove(oldest)
            self.evicted += count

    def _remove(self, rows: Int64[np.ndarray, " m"]) -> None:
        if not len(rows):
            return
        wanted = np.ones(self._used, bool)
        wanted[rows] = False
        self._index.keep(wanted)
        self._key[rows] = -1
        self._free = np.concatenate([self._free, rows])

    def _take_rows(self, count: int) -> Int64[np.ndarray, " count"]:
        reused = self._free[len(self._free) - min(count, len(self._free)) :]
        self._free = self._free[: len(self._free) - len(reused)]
        fresh = count - len(reused)
        rows = np.concatenate([reused, np.arange(self._used, self._used + fresh)])
        self._used += fresh
        return rows
