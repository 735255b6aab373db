"""Ask a semantic map in words: "where is a car?"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from ov3d_perception.errors import UnknownWordError
from ov3d_perception.geometry.boxes import Box
from ov3d_perception.language.rivals import SYNONYM_COSINE, knows, rivals
from ov3d_perception.language.vocabulary import TextSource
from ov3d_perception.language.words import same_word
from ov3d_perception.mapping.clusters import boxes_around, cluster, members_of
from ov3d_perception.mapping.scoring import Hits, Question, Scorer
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.mapping.voxel_table import MapChunk

ORDERS = ("best", "nearest")


@dataclass(frozen=True)
class Region:
    """An axis-parallel box in the map's frame; edges of zero or less do not limit. Metres."""

    centre: Float64[np.ndarray, " 3"]
    size: Float64[np.ndarray, " 3"]

    def holds(self, xyz: Float32[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
        """True for each point inside."""
        limited = np.asarray(self.size) > 0
        return (np.abs(xyz - self.centre) <= np.asarray(self.size) / 2)[:, limited].all(1)


@dataclass(frozen=True)
class TextQuery:
    """The words to look for, and the thresholds.

    words: each is answered on its own. negatives: words that compete with each. If there are none, the words of the
    background (classes with their words) compete, except those of the word's own class and its synonyms: texts with a
    cosine of ``synonym_cosine`` or more (with CLIP's prompt ensembles, car and truck have 0.94, building and house
    0.95). If none is left, the CANONICAL words compete that the text source knows.
    threshold: probability of a sure voxel; a match has at least ``min_sure`` of them. extent: share of the threshold
    from which on other voxels join a match, if no competing word is likelier there (hysteresis, as in Canny's edges).
    limit: most matches a word, 0 for all. region: where to look, None for everywhere. min_voxels: of a match.
    min_observations: voxels hit by fewer scans do not count; moving things leave such voxels. gap, vertical_gap: see
    :func:`clusters.cluster`, metres; at least the map's voxel size. position: that distances are measured from, in the
    map's frame. order: of a word's matches, "best" (score) or "nearest" first; the latter needs a position.
    """

    words: Sequence[str]
    negatives: Sequence[str] = ()
    background: Mapping[str, Sequence[str]] = field(default_factory=dict)
    threshold: float = 0.5
    extent: float = 0.5
    min_sure: int = 5
    limit: int = 0
    region: Region | None = None
    min_voxels: int = 20
    min_observations: int = 2
    gap: float = 0.3
    vertical_gap: float = 0.9
    synonym_cosine: float = SYNONYM_COSINE
    position: Float64[np.ndarray, " 3"] | None = None
    order: str = "best"


@dataclass(frozen=True)
class Match:
    """A group of voxels that answers a word. score: mean probability; keys: its voxels; last_seen: stamp in ns.

    distance: from the query's position to the nearest voxel's centre, metres; NaN if it has none.
    """

    word: str
    score: float
    centroid: Float64[np.ndarray, " 3"]
    box: Box
    last_seen: int
    keys: Int64[np.ndarray, " n"]
    distance: float = float("nan")

    @property
    def count(self) -> int:
        """Number of voxels."""
        return len(self.keys)

    def __str__(self) -> str:
        """Score, centre and box of a match, metres."""
        (x, y, z), (length, width, height) = self.centroid, self.box.size
        return (
            f"score {self.score:.2f} at ({x:.1f}, {y:.1f}, {z:.1f}) m, "
            f"box {length:.1f} x {width:.1f} x {height:.1f} m, {self.count} voxels"
        )


def ask(semantic_map: SemanticMap, query: TextQuery, text: TextSource) -> list[Match]:
    """Matches in the order of the words, each word's in the query's order; none if nothing like that is there.

    The probability of a word at a voxel is the softmax of logit_scale * cosine over the word and what competes with
    it. Raises UnknownWordError (no word, or one that the text source lacks; a word and nothing to compare it with),
    IdentityError (text of another encoder), ValueError (an unknown order, or "nearest" without a position).
    """
    semantic_map.require(text.identity, "words")
    if query.order not in ORDERS or (query.order == "nearest" and query.position is None):
        raise ValueError(f"order '{query.order}', position {query.position}")
    if not query.words or not all(word.strip() for word in query.words):
        raise UnknownWordError("The query has no word", "Ask for something, such as 'car'")
    questions = [question(word, query, text) for word in query.words]
    if not len(semantic_map):
        return []

    def counts(chunk: MapChunk) -> Bool[np.ndarray, " n"]:
        """True for voxels seen often enough, inside the region."""
        enough = chunk.weight >= query.min_observations
        return enough if query.region is None else enough & query.region.holds(semantic_map.centres(chunk.key))

    return [
        match
        for asked in questions
        for match in _matches(
            semantic_map, query, asked.word, Scorer(semantic_map, asked).hits(query.threshold * query.extent, counts)
        )
    ]


def question(word: str, query: TextQuery, text: TextSource) -> Question:
    """A word and its competing words, embedded."""
    asked = text.embed([word])
    negatives = [negative for negative in query.negatives if not same_word(negative, word)]
    if negatives:
        return Question(word, np.concatenate([asked, text.embed(negatives)]))
    against = rivals([word], query.background, text, query.synonym_cosine)
    if not len(against):
        raise UnknownWordError(
            f"There is nothing to tell '{word}' from", "Give negatives, or the node a background vocabulary"
        )
    return Question(word, np.concatenate([asked, against]))


def known_classes(classes: Mapping[str, Sequence[str]], text: TextSource) -> dict[str, list[str]]:
    """The classes, with those of their words that the text source can embed.

    If it can embed none of them, each word of the text bank is a class.
    """
    known = {name: [word for word in words if knows(text, word)] for name, words in classes.items()}
    known = {name: words for name, words in known.items() if words}
    return known or {word: [word] for word in getattr(text, "words", ())}


def _matches(semantic_map: SemanticMap, query: TextQuery, word: str, hits: Hits) -> list[Match]:
    centres, edge = semantic_map.centres(hits.key), semantic_map.voxel_size
    group = cluster(centres, max(query.gap, edge), max(query.vertical_gap, edge))
    believed = np.bincount(group, hits.probability >= query.threshold)
    rows, first = members_of(group, (believed >= query.min_sure) & (np.bincount(group) >= query.min_voxels))
    if not len(rows):
        return []
    count, centres, keys = np.diff(first, append=len(rows)), centres.take(rows, 0), hits.key.take(rows)
    score = np.add.reduceat(hits.probability.take(rows).astype(np.float64), first) / count
    sums = [np.add.reduceat(np.ascontiguousarray(axis, np.float64), first) for axis in centres.T]
    centroid = np.stack(sums, 1) / count[:, None]
    seen = np.maximum.reduceat(hits.last_seen.take(rows), first)
    distance = np.full(len(first), np.nan)
    if query.position is not None:
        distance = np.sqrt(np.minimum.reduceat(((centres - query.position) ** 2).sum(1), first))
    order = np.argsort(distance if query.order == "nearest" else -score, kind="stable")[: query.limit or None]
    own = [slice(start, start + size) for start, size in zip(first[order], count[order], strict=True)]
    shown = np.concatenate([keys[part] for part in own])
    boxes = boxes_around(shown, np.cumsum(count[order]) - count[order], edge)
    return [
        Match(
            word,
            float(score[number]),
            centroid[number],
            box,
            int(seen[number]),
            keys[part],
            float(distance[number]),
        )
        for number, part, box in zip(order.tolist(), own, boxes, strict=True)
    ]
