"""How well words fit the voxels of a map: softmax probabilities, by code for all voxels and exactly where it matters.

For a word t and rivals r, the probability at a feature with the direction u is 1 / (1 + sum_r exp(s (r - t) . u)). The
log-odds of a code are known to about s |g| where g is the mean rival less the word, and |.| the metric of what the
codes leave out (:meth:`SemanticMap.codes`). Codes three times as far below the threshold are not looked at. The voxels
of the others are scored by their own features, those nearest to the threshold first, up to a number that keeps a query
quick.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64

from ov3d_perception.mapping.columns import MapChunk
from ov3d_perception.mapping.compact import normalised
from ov3d_perception.mapping.semantic_map import SemanticMap

_SURE = 3.0  # standard deviations of a code's log-odds: nearer than that to the threshold, voxels are scored exactly
_REACH = 8.0  # log-odds: farther than that from the threshold, no code is in doubt
_ROWS = 4096  # at a time: their logits stay in the cache
_CHUNK = 16384  # rows that are read at a time, so long the writer waits
_WORKERS = ThreadPoolExecutor(2, "scoring")
_ALIGNMENT = 16
_FEW, _MANY = 50_000, 80_000  # so many voxels are scored by their own features whatever their codes say, and at most
_TIE = 0.1  # log-odds: a rival that is ahead by less is no likelier
_NEGLIGIBLE = 1e-5  # share of the probability; rivals below it at all codes in doubt are left out


@dataclass(frozen=True)
class Question:
    """A word and its embedding in row 0, what competes with it in the others."""

    word: str
    embeddings: Float32[np.ndarray, "p d"]


@dataclass(frozen=True)
class Hits:
    """Voxels where a word has at least the threshold's probability and no rival has more. last_seen: stamps in ns."""

    key: Int64[np.ndarray, " n"]
    probability: Float32[np.ndarray, " n"]
    last_seen: Int64[np.ndarray, " n"]


Wanted = Callable[[MapChunk], Bool[np.ndarray, " n"]]


class Scorer:
    """One question to a map. The map may change meanwhile."""

    def __init__(self, semantic_map: SemanticMap, question: Question) -> None:
        self._map = semantic_map
        self._scale = semantic_map.logit_scale
        text = question.embeddings.astype(np.float64)
        text /= np.maximum(np.linalg.norm(text, axis=1, keepdims=True), 1e-12)
        self._rivals = ((text[1:] - text[0]) @ semantic_map.basis.T).astype(np.float32)  # (p - 1, c)
        self._codes = semantic_map.codes()
        self._shares, self._table, self._best = self._of_codes(self._codes.vectors)

    def probabilities(self) -> Float32[np.ndarray, " r"]:
        """Probability of the word in each of the map's rows by its code; 0 in rows without a voxel."""
        return self._map.look_up(self._table)

    def exact(self, rows: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
        """The same of the voxels in these rows, by their own features."""
        parts = [self._map.take(part).features for part in _chunks(rows)]
        return np.concatenate([probability_of(part, self._rivals, self._scale) for part in parts])

    def hits(self, threshold: float, wanted: Wanted) -> Hits:
        """The voxels that reach the threshold and that no rival fits better, of those ``wanted``."""
        doubt = self._doubt(threshold)
        above = (self._table >= threshold) & self._best
        possible = above | (doubt < _SURE)
        rivals = self._rivals[(self._shares[possible] > _NEGLIGIBLE).any(0)]
        looked_at = possible & (doubt <= _limit(doubt, self._map.tally(len(doubt)) * possible))
        kind = self._map.look_up((above | looked_at).astype(np.uint8) + looked_at)

        def by_code(rows: Int64[np.ndarray, " n"]) -> Hits:
            """Those that are hits for sure."""
            chunk = self._take(rows, wanted, features=False)
            return Hits(chunk.key, self._table[chunk.code], chunk.last_seen)

        def by_feature(chunk: MapChunk) -> Hits:
            """Those that have to be looked at."""
            exact, best = _fit(chunk.features, rivals, self._scale)
            hit = np.flatnonzero((exact >= threshold) & best)
            return Hits(chunk.key[hit], exact[hit], chunk.last_seen[hit])

        def read(rows: Int64[np.ndarray, " n"]) -> MapChunk:
            return self._take(rows, wanted, features=True)

        read_ahead = _WORKERS.map(read, _chunks(np.flatnonzero(kind == 2)))
        sure = _WORKERS.map(by_code, _chunks(np.flatnonzero(kind == 1)))
        parts = [*map(by_feature, read_ahead), *sure]  # torch has threads of its own
        columns = zip(*((part.key, part.probability, part.last_seen) for part in parts), strict=True)
        return Hits(*(np.concatenate(column) for column in columns))

    def _of_codes(
        self, vectors: Float32[np.ndarray, "k c"]
    ) -> tuple[Float32[np.ndarray, "k r"], Float32[np.ndarray, " k"], Bool[np.ndarray, " k"]]:
        """Probability of each rival and of the word, and if no rival has more, by code; the word's is 0 at codes that
        no voxel had yet."""
        odds = _odds(torch.from_numpy(vectors), self._rivals, self._scale)
        table, best = 1 / (1 + odds.sum(1)), odds.amax(1) <= np.exp(_TIE)
        shares = odds.mul_(table[:, None]).numpy()
        table[(vectors == 0).all(1)] = 0
        return shares, table.numpy(), best.numpy()

    def _doubt(self, threshold: float) -> Float32[np.ndarray, " k"]:
        """How far each code is from the threshold, either side, in deviations of its log-odds; inf: very far."""
        clipped = np.clip(self._table.astype(np.float64), 1e-30, 1 - 1e-7)
        away = np.abs(np.log(clipped / (1 - clipped)) - np.log(threshold / max(1 - threshold, 1e-7)))
        near = np.flatnonzero((away < _REACH) & (self._table > 0))
        shares = self._shares[near]
        gradient = (shares / np.maximum(shares.sum(1, keepdims=True), 1e-12)) @ self._rivals
        variance = np.einsum("kc,kc->k", gradient @ self._codes.spread, gradient).clip(0)
        deviation = self._scale * np.sqrt(variance) * self._codes.looseness[near]
        doubt = np.full(len(self._table), np.inf, np.float32)
        doubt[near] = away[near] / (deviation + 1e-3)
        return doubt

    def _take(self, rows: Int64[np.ndarray, " n"], wanted: Wanted, *, features: bool) -> MapChunk:
        chunk = self._map.take(rows, features=features)
        kept = wanted(chunk)
        return chunk if kept.all() else chunk.of(kept)


def _chunks(rows: Int64[np.ndarray, " n"]) -> list[Int64[np.ndarray, " m"]]:
    return [rows[start : start + _CHUNK] for start in range(0, max(len(rows), 1), _CHUNK)]


def _limit(doubt: Float32[np.ndarray, " k"], voxels: Float64[np.ndarray, " k"]) -> float:
    """The least certainty (in deviations) at which a code decides for its voxels.

    _SURE; less where that would be more than _MANY voxels; more while they are fewer than _FEW.
    """
    order = np.argsort(doubt)
    held = np.cumsum(voxels[order])
    if held[-1] <= _FEW:
        return float("inf")
    most = int(np.searchsorted(held, _MANY, side="right"))
    return min(_SURE, float(doubt[order[most - 1]]) if 0 < most <= len(order) else 0.0)


def probability_of(
    features: Float32[np.ndarray, "n c"], rivals: Float32[np.ndarray, "r c"], logit_scale: float
) -> Float32[np.ndarray, " n"]:
    """1 / (1 + sum exp(logit_scale * cosine difference)) of features of any length. rivals: rival less word."""
    return _fit(features, rivals, logit_scale)[0]


def _fit(
    features: Float32[np.ndarray, "n c"], rivals: Float32[np.ndarray, "r c"], logit_scale: float
) -> tuple[Float32[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """:func:`probability_of`, and if no rival has more."""
    unit = torch.from_numpy(normalised(features))
    result, best = np.empty(len(features), np.float32), np.empty(len(features), bool)
    for start in range(0, len(features), _ROWS):
        rows = slice(start, start + _ROWS)
        odds = _odds(unit[rows], rivals, logit_scale)
        result[rows], best[rows] = (1 / (1 + odds.sum(1))).numpy(), (odds.amax(1) <= np.exp(_TIE)).numpy()
    return result, best


def _odds(unit: torch.Tensor, rivals: Float32[np.ndarray, "r c"], logit_scale: float) -> torch.Tensor:
    """Odds of each rival against the word, (n, r). Columns are made up to a number that is quick to multiply."""
    directions = torch.from_numpy(np.float32(logit_scale) * rivals.T)
    directions = torch.nn.functional.pad(directions, (0, -len(rivals) % _ALIGNMENT)).contiguous()
    return (unit @ directions).clamp_(max=80.0).exp_()[:, : len(rivals)]
