"""A codebook of unit vectors: 16 bits a voxel stand for its feature when words are scored.

A word is scored against the codebook, and each voxel looks its score up by its code. For 5 million voxels that reads 10
MB, however many words compete; their own features against 60 words would be 240 MB and 29 GFLOP. The quantisation error
is measured (:attr:`Codebook.spread`), so that the voxels near a threshold can be scored by their own features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt16

from ov3d_perception.mapping.linear_algebra import gram, product
from ov3d_perception.mapping.thread_pool import WRITER

GROUPS, SIZE = 256, 64  # two levels: a search costs GROUPS + SIZE products instead of GROUPS * SIZE
NEAR = 0.995  # cosine: a vector nearer to an entry than this needs no entry of its own
_LEARN = 256  # most new entries a call
_SAMPLE = 4  # one row in so many moves its entry and is measured
_MEMORY = 2e4  # rows over which the spread is averaged
_BY_GROUP = ("centre", "vector", "seen", "off", "size", "closed")
_ROWS = 1024  # searched at a time
_PIECE = 64  # rows compared at a time: few enough for OpenBLAS to start no threads (see linear_algebra.py)
_DOUBT = 8  # rows after which an entry's own error counts as much as the spread


@dataclass(frozen=True)
class CodeList:
    """The entries by code, for scoring: unit vectors, zeros where there is none (code 0, and gaps).

    spread: second moment of the quantisation error; looseness: by code, the entry's own error relative to the spread (a
    ratio of lengths); empty: codes that no voxel has.
    """

    vectors: Float32[np.ndarray, "k c"]
    spread: Float32[np.ndarray, "c c"]
    looseness: Float32[np.ndarray, " k"]
    empty: Bool[np.ndarray, " k"]


class Codebook:
    """Unit vectors that grow in number with the data: a vector that is near no entry becomes one.

    Code 0 means no code; code k has row k of :meth:`vectors`. An entry is never removed; it moves to the mean of the
    vectors with its code. There are 256 groups of 64; when a group is full, its nearest entry is used.

    spread: second moment of (unit feature - entry), (c, c).
    """

    def __init__(self, channels: int) -> None:
        self.spread: Float32[np.ndarray, "c c"] = np.zeros((channels, channels), np.float32)
        self._centre = np.zeros((GROUPS, channels), np.float32)
        self._vector = np.zeros((GROUPS, SIZE, channels), np.float32)
        self._seen = np.zeros((GROUPS, SIZE), np.float32)
        self._off = np.zeros((GROUPS, SIZE), np.float32)  # sum of the squared distances of what was seen
        self._size = np.zeros(GROUPS, np.int64)
        self._groups = 0
        self._closed = np.zeros(GROUPS, bool)  # full groups, when there can be no more groups
        self._measured = 0.0

    def __len__(self) -> int:
        """Number of entries in use."""
        return int(self._size.sum())

    @property
    def nbytes(self) -> int:
        """Bytes of the list."""
        return self._centre.nbytes + self._vector.nbytes + self._seen.nbytes + self._off.nbytes

    def arrays(self) -> dict[str, np.ndarray]:
        """Copies of all arrays, for files."""
        used = {name: getattr(self, f"_{name}")[: self._groups].copy() for name in _BY_GROUP}
        return {**used, "spread": self.spread.copy(), "measured": np.array([self._measured])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Codebook:
        """The inverse of :meth:`arrays`."""
        result = cls(arrays["spread"].shape[1])
        result._groups = len(arrays["size"])
        for name in _BY_GROUP:
            getattr(result, f"_{name}")[: result._groups] = arrays[name]
        result.spread, result._measured = arrays["spread"].copy(), float(arrays["measured"][0])
        return result

    def vectors(self) -> Float32[np.ndarray, "k c"]:
        """The entries by code, a copy, always as many; zeros for code 0 and entries not in use."""
        flat = self._vector.reshape(-1, self._vector.shape[2])
        return np.concatenate([np.zeros((1, flat.shape[1]), np.float32), flat])

    def empty(self) -> Bool[np.ndarray, " k"]:
        """By code: True where no vector has it."""
        return np.concatenate([np.ones(1, bool), self._seen.ravel() == 0])

    def looseness(self) -> Float32[np.ndarray, " k"]:
        """By code: quantisation error of the entry, relative to the spread (a ratio of lengths)."""
        usual = max(float(np.trace(self.spread)), 1e-12)
        off, seen = self._off.ravel(), self._seen.ravel()
        ratio = np.sqrt((off / usual + _DOUBT) / (seen + _DOUBT))
        return np.concatenate([np.ones(1, np.float32), ratio.astype(np.float32)])

    def encode(self, unit: Float32[np.ndarray, "n c"]) -> UInt16[np.ndarray, " n"]:
        """Code of each unit vector; those that are near no entry are learned first."""
        code, cosine = self._nearest(unit)
        far = np.flatnonzero((cosine < NEAR) & ~self._closed[code // SIZE])
        if len(far) and self._learn(unit[far]):
            code[far], cosine[far] = self._nearest(unit[far])
        self._follow(unit[::_SAMPLE], code[::_SAMPLE])
        return (code + 1).astype(np.uint16)

    def fits(self, unit: Float32[np.ndarray, "n c"], code: UInt16[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """True where a vector is still near the entry of its code; a tenth of the work of encoding."""
        vectors = self._vector.reshape(-1, unit.shape[1])[np.maximum(code, 1) - 1]
        return (np.einsum("nc,nc->n", unit, vectors) >= NEAR) & (code > 0)

    def _nearest(self, unit: Float32[np.ndarray, "n c"]) -> tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
        """Entry (group * SIZE + place) in the nearest group, and its cosine; -1 while there is none."""
        entry, cosine = np.zeros(len(unit), np.int64), np.full(len(unit), -1, np.float32)
        if not self._groups or not len(unit):
            return entry, cosine
        group = np.empty(len(unit), np.int64)

        def nearest_group(part: slice) -> None:
            group[part] = product(unit[part], self._centre[: self._groups].T).argmax(1)

        WRITER.map_slices(len(unit), _ROWS, nearest_group)
        order = np.argsort(group.astype(np.uint8), kind="stable")
        ordered, products = unit.take(order, 0), np.empty((len(unit), SIZE), np.float32)
        stops = np.cumsum(np.bincount(group, minlength=self._groups)).tolist()
        for number, (start, stop) in enumerate(zip([0, *stops], stops, strict=False)):
            for row in range(start, stop, _PIECE):
                piece = slice(row, min(row + _PIECE, stop))
                np.dot(ordered[piece], self._vector[number].T, out=products[piece])
            products[start:stop, self._size[number] :] = -1  # places without an entry
        place = products.argmax(1)
        entry[order] = group[order] * SIZE + place
        cosine[order] = products[np.arange(len(unit)), place]
        return entry, cosine

    def _learn(self, unit: Float32[np.ndarray, "n c"]) -> bool:
        """Add entries for vectors that are near none, one for those near each other; True if any was added."""
        chosen = unit[:: -(-len(unit) // _LEARN)]
        near = product(chosen, chosen.T) >= NEAR
        covered, learned = np.zeros(len(chosen), bool), False
        for number in range(len(chosen)):
            if not covered[number]:
                covered |= near[number]
                learned |= self._add(chosen[number])
        return learned

    def _add(self, vector: Float32[np.ndarray, " c"]) -> bool:
        """Add to the group of the nearest centre; if that is full, start a new group with the vector as its centre."""
        group = int(product(self._centre[: self._groups], vector[:, None]).argmax()) if self._groups else 0
        if self._groups == 0 or self._size[group] == SIZE:
            if self._groups == GROUPS:
                self._closed[group] = True
                return False
            group = self._groups
            self._groups += 1
            self._centre[group] = vector
        self._vector[group, self._size[group]], self._seen[group, self._size[group]] = vector, 1
        self._size[group] += 1
        return True

    def _follow(self, unit: Float32[np.ndarray, "n c"], entry: Int64[np.ndarray, " n"]) -> None:
        """Move the entries to the mean of their vectors, and measure the quantisation error."""
        if not len(unit):
            return
        order = np.argsort(entry, kind="stable")
        entries, first = np.unique(entry[order], return_index=True)
        count = np.diff(first, append=len(order)).astype(np.float32)
        group, place = np.divmod(entries, SIZE)
        seen = self._seen[group, place] + count
        vector = self._vector[group, place] * (seen - count)[:, None] + np.add.reduceat(unit[order], first, axis=0)
        self._vector[group, place] = vector / np.maximum(np.linalg.norm(vector, axis=1, keepdims=True), 1e-12)
        self._seen[group, place] = seen
        off = unit - self._vector.reshape(-1, unit.shape[1])[entry]
        squared = np.einsum("nc,nc->n", off, off)
        self._off[group, place] += np.add.reduceat(squared[order], first)
        self._measured = min(self._measured + len(unit), _MEMORY)
        self.spread += (gram(off) - len(unit) * self.spread) / np.float32(self._measured)
