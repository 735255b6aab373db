"""Softmax probabilities of words at the voxels of a map: by code for all voxels, by feature near the threshold.

For a word t and rivals r, the probability at a feature of direction u is 1 / (1 + sum_r exp(s (r - t) . u)). A code
gives the log-odds of its voxels with a standard deviation of about s |g|, where g is the mean rival less the word and
|.| the metric of the quantisation error (:meth:`SemanticMap.codes`); a bias of second order is corrected. Where a code
is three deviations or more from the threshold, it decides for its voxels. The others are scored by their own features,
those nearest to the threshold first, up to a number that keeps a query fast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from ov3d_perception.mapping.codebook import CodeList
from ov3d_perception.mapping.linear_algebra import product, row_lengths
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.mapping.thread_pool import QUERIES
from ov3d_perception.mapping.voxel_table import ChunkFilter

_SURE = 3.0  # standard deviations: a code nearer than that to the threshold does not decide for its voxels
_BEND = 1.0  # log-odds: largest correction of a code
_ROWS = 4096  # at a time, so that their logits stay in the cache
_CHUNK = 32768  # rows read under the map's lock at a time
_FEW = 50_000  # voxels that are always scored by their own features, if there are as many
_MANY, _HIT = 240_000, 0.7  # at most; a voxel that its code decides to be a hit takes 0.7 of the time of a score
_TIE = 0.1  # log-odds: a rival ahead by less does not count as likelier
_NEGLIGIBLE = 1e-5  # rivals with a smaller share at all codes in doubt are dropped


@dataclass(frozen=True)
class Question:
    """A word. embeddings: the word's in row 0, its rivals' in the others."""

    word: str
    embeddings: Float32[np.ndarray, "p d"]


@dataclass(frozen=True)
class Hits:
    """Voxels where a word has at least the threshold's probability and no rival has more. last_seen: stamps in ns."""

    key: Int64[np.ndarray, " n"]
    probability: Float32[np.ndarray, " n"]
    last_seen: Int64[np.ndarray, " n"]


class Scorer:
    """One question to a map. The map may change meanwhile."""

    def __init__(self, semantic_map: SemanticMap, question: Question) -> None:
        self._map = semantic_map
        self._scale = semantic_map.logit_scale
        text = question.embeddings.astype(np.float64)
        text /= np.maximum(np.linalg.norm(text, axis=1, keepdims=True), 1e-12)
        self._rivals = product((text[1:] - text[0]).astype(np.float32), semantic_map.basis.T)  # (p - 1, c)
        self._codes = _CodeScores.of(semantic_map.codes(), self._rivals, self._scale)

    def probabilities(self) -> Float32[np.ndarray, " r"]:
        """Probability of the word in each of the map's rows by its code; 0 in rows without a voxel."""
        return self._map.look_up(self._codes.probability)

    def exact(self, rows: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
        """The same of the voxels in these rows, by their own features."""
        parts = [self._map.take(part).features for part in _chunks(rows)]
        return np.concatenate([probability_of(part, self._rivals, self._scale) for part in parts])

    def hits(self, threshold: float, keep: ChunkFilter) -> Hits:
        """The voxels that reach the threshold and that no rival fits better, of those that ``keep`` accepts."""
        codes = self._codes
        doubt = codes.doubt(threshold)
        above = (codes.probability >= threshold) & codes.best
        voxels = self._map.count_by_code(len(doubt))
        most = max(_FEW, _MANY - int(_HIT * voxels[above].sum()))
        looked_at = np.isfinite(doubt)
        looked_at[looked_at] = doubt[looked_at] <= _limit(doubt[looked_at], voxels[looked_at], most)
        largest = codes.shares[looked_at].max(0) if looked_at.any() else codes.shares[0]
        rivals = self._rivals[largest > _NEGLIGIBLE]
        kind = self._map.look_up((above | looked_at).astype(np.uint8) + looked_at)
        rows = np.flatnonzero(kind > 0)  # of booleans: four times as fast as of numbers
        by_feature = kind[rows] == 2

        parts = [(part, True) for part in _chunks(rows.compress(by_feature))]
        parts += [(part, False) for part in _chunks(rows.compress(~by_feature))]
        found: dict[int, Hits] = {}

        def look(one: slice) -> None:
            part, own = parts[one.start]
            found[one.start] = self._by_feature(part, keep, threshold, rivals) if own else self._by_code(part, keep)

        QUERIES.map_slices(len(parts), 1, look)
        ordered = [found[number] for number in range(len(parts))]
        columns = zip(*((part.key, part.probability, part.last_seen) for part in ordered), strict=True)
        return Hits(*(np.concatenate(column) for column in columns))

    def _by_code(self, rows: Int64[np.ndarray, " n"], keep: ChunkFilter) -> Hits:
        """All of these rows that ``keep`` accepts: their codes decide."""
        chunk = self._map.take(rows, keep=keep, features=False)
        return Hits(chunk.key, self._codes.probability[chunk.code], chunk.last_seen)

    def _by_feature(
        self, rows: Int64[np.ndarray, " n"], keep: ChunkFilter, threshold: float, rivals: Float32[np.ndarray, "r c"]
    ) -> Hits:
        """The hits of these rows by their own features."""
        chunk = self._map.take(rows, keep=keep)
        exact, best = _fit(chunk.features, rivals, self._scale)
        hit = np.flatnonzero((exact >= threshold) & best)
        return Hits(chunk.key[hit], exact[hit], chunk.last_seen[hit])


@dataclass(frozen=True)
class _CodeScores:
    """Scores of a question by code. log_odds: of the word, -inf for codes that no voxel has had; deviation: standard
    deviation of the log-odds of a code's voxels; best: no rival is likelier; shares: of the rivals, summing to 1.
    """

    log_odds: Float32[np.ndarray, " k"]
    probability: Float32[np.ndarray, " k"]
    deviation: Float32[np.ndarray, " k"]
    best: Bool[np.ndarray, " k"]
    shares: Float32[np.ndarray, "k r"]

    @classmethod
    def of(cls, codes: CodeList, rivals: Float32[np.ndarray, "r c"], scale: float) -> _CodeScores:
        """Score all codes.

        With shares w and the metric M of the quantisation error, the log-odds of an entry's voxels have the variance
        w M w, and a mean below the entry's own by (w diag M - w M w) / 2, to second order.
        """
        against = np.float32(scale) * rivals
        metric = product(product(against, codes.spread), against.T)
        loose = np.square(codes.looseness)
        log_odds, deviation = np.empty((2, len(loose)), np.float32)
        best = np.empty(len(loose), bool)
        shares = np.empty((len(loose), len(rivals)), np.float32)

        def score(part: slice) -> None:
            odds = _odds(codes.vectors[part], rivals, scale)
            best[part] = ~(odds > np.exp(_TIE)).any(1)
            total = np.maximum(np.einsum("nr->n", odds), 1e-30)
            share = np.multiply(odds, (1 / total)[:, None], out=shares[part])
            variance = np.maximum(np.einsum("kr,kr->k", product(share, metric), share) * loose[part], 0)
            bend = ((share @ metric.diagonal()) * loose[part] - variance) / 2
            log_odds[part] = -np.log(total) - np.clip(bend, 0, _BEND)
            deviation[part] = np.sqrt(variance)

        QUERIES.map_slices(len(loose), _ROWS, score)
        log_odds[codes.empty] = -np.inf
        return cls(log_odds, 1 / (1 + np.exp(-log_odds)), deviation, best, shares)

    def doubt(self, threshold: float) -> Float32[np.ndarray, " k"]:
        """Distance of each code from the threshold in standard deviations; inf where there is no voxel."""
        away = np.abs(self.log_odds - np.float32(np.log(threshold / max(1 - threshold, 1e-7))))
        return away / (self.deviation + np.float32(1e-3))


def _chunks(rows: Int64[np.ndarray, " n"]) -> list[Int64[np.ndarray, " _"]]:
    return [rows[start : start + _CHUNK] for start in range(0, max(len(rows), 1), _CHUNK)]


def _limit(doubt: Float32[np.ndarray, " k"], voxels: Float64[np.ndarray, " k"], most: int) -> float:
    """The distance from the threshold, in standard deviations, from which on a code decides for its voxels.

    _SURE; less where more than ``most`` voxels would be scored, more where fewer than _FEW would be.
    """
    order = np.argsort(doubt)
    held = np.cumsum(voxels[order])

    def reached(count: int) -> float:
        """The distance within which the codes have at most ``count`` voxels together."""
        codes = int(np.searchsorted(held, count, side="right"))
        return float("inf") if codes == len(order) else float(doubt[order[codes - 1]]) if codes else 0.0

    return min(max(_SURE, reached(_FEW)), reached(most))


def probability_of(
    features: Float32[np.ndarray, "n c"], rivals: Float32[np.ndarray, "r c"], logit_scale: float
) -> Float32[np.ndarray, " n"]:
    """1 / (1 + sum exp(logit_scale * cosine difference)) of features of any length. rivals: rival less word."""
    return _fit(features, rivals, logit_scale)[0]


def _fit(
    features: Float32[np.ndarray, "n c"], rivals: Float32[np.ndarray, "r c"], logit_scale: float
) -> tuple[Float32[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """:func:`probability_of`, and if no rival has more."""
    result, best = np.empty(len(features), np.float32), np.empty(len(features), bool)
    for start in range(0, len(features), _ROWS):
        rows = slice(start, start + _ROWS)
        part = features[rows]
        odds = _odds(part, rivals, logit_scale, 1 / np.maximum(row_lengths(part), 1e-12))
        result[rows] = 1 / (1 + np.einsum("nr->n", odds))
        best[rows] = ~(odds > np.exp(_TIE)).any(1)
    return result, best


def _odds(
    vectors: Float32[np.ndarray, "n c"],
    rivals: Float32[np.ndarray, "r c"],
    logit_scale: float,
    scale: Float32[np.ndarray, " n"] | None = None,
) -> Float32[np.ndarray, "n r"]:
    """Odds of each rival against the word at vectors, times a scale each."""
    logits = product(vectors, np.ascontiguousarray(np.float32(logit_scale) * rivals.T))
    if scale is not None:
        logits *= scale[:, None]
    return np.exp(np.minimum(logits, 80, out=logits), out=logits)
