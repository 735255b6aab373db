"""Ask a semantic map in words: "where is a car?"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from ov3d_perception.errors import UnknownWordError
from ov3d_perception.geometry.boxes import Box
from ov3d_perception.language.narrow import NarrowText
from ov3d_perception.language.vocabulary import TextSource
from ov3d_perception.mapping.clusters import box_around, cluster
from ov3d_perception.mapping.semantic_map import SemanticMap


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
    """What to look for, and how sure to be.

    words: each is answered on its own. negatives: what a voxel may be instead. Where there are none, the background (a
    vocabulary: classes, and the words that mean each) takes their place, less the words of the class that the word
    itself is in, and less its synonyms: those whose text has a cosine of ``synonym_cosine`` or more with the word's
    (with CLIP's prompt ensembles car-truck have 0.94, building-house 0.95). threshold: least probability of a voxel.
    limit: most matches a word, 0 for all. region: where to look, None for everywhere. min_voxels: smaller groups are
    noise. min_observations: voxels hit by fewer scans do not count: what moves leaves such traces where later scans
    cannot look. gap, vertical_gap: see :func:`clusters.cluster`, in metres; no less than the map's voxels.
    """

    words: Sequence[str]
    negatives: Sequence[str] = ()
    background: Mapping[str, Sequence[str]] = field(default_factory=dict)
    threshold: float = 0.5
    limit: int = 0
    region: Region | None = None
    min_voxels: int = 20
    min_observations: int = 2
    gap: float = 0.3
    vertical_gap: float = 0.9
    synonym_cosine: float = 0.95


@dataclass(frozen=True)
class Match:
    """A group of voxels that answers a word. score: mean probability; keys: its voxels; last_seen: stamp in ns."""

    word: str
    score: float
    centroid: Float64[np.ndarray, " 3"]
    box: Box
    last_seen: int
    keys: Int64[np.ndarray, " n"]

    @property
    def count(self) -> int:
        """Number of voxels."""
        return len(self.keys)


def ask(semantic_map: SemanticMap, query: TextQuery, text: TextSource) -> list[Match]:
    """Matches grouped in the order of the words, each word's by falling score. No match: nothing like that is there.

    The probability of a word at a voxel is the softmax of logit_scale * cosine over the word and what competes with
    it. Raises UnknownWordError (no word, or one that the text source lacks; a word and nothing to compare it with),
    IdentityError (text of another encoder).
    """
    semantic_map.require(text.identity, "words")
    if not query.words or not all(word.strip() for word in query.words):
        raise UnknownWordError("The query has no word", "Ask for something, such as 'car'")
    questions = [_Question.make(word, query, text) for word in query.words]
    embeddings = np.concatenate([question.embeddings for question in questions])
    narrow = NarrowText(semantic_map.basis, embeddings)
    spans = np.cumsum([0, *(len(question.embeddings) for question in questions)])
    found: list[list[_Found]] = [[] for _ in questions]
    for chunk in semantic_map.chunks():
        keys, features, seen = chunk.key, chunk.features, chunk.last_seen
        asked = chunk.weight >= query.min_observations
        if query.region is not None:
            asked &= query.region.holds(semantic_map.centres(keys))
        keys, features, seen = keys[asked], features[asked], seen[asked]
        logits = semantic_map.logit_scale * narrow.cosines(features.astype(np.float32))
        for number, hits in enumerate(found):
            probability = _first_softmax(logits[:, spans[number] : spans[number + 1]])
            hit = np.flatnonzero(probability >= query.threshold)
            hits.append(_Found(keys[hit], probability[hit], seen[hit]))
    return [
        match
        for question, hits in zip(questions, found, strict=True)
        for match in _matches(semantic_map, query, question.word, hits)
    ]


@dataclass(frozen=True)
class _Question:
    """A word and its embedding in row 0, what competes with it in the others."""

    word: str
    embeddings: Float32[np.ndarray, "p d"]

    @classmethod
    def make(cls, word: str, query: TextQuery, text: TextSource) -> _Question:
        asked = text.embed([word])
        rivals = [negative for negative in query.negatives if _same(negative) != _same(word)]
        if rivals:
            return cls(word, np.concatenate([asked, text.embed(rivals)]))
        others = [words for words in query.background.values() if _same(word) not in map(_same, words)]
        rivals = [rival for words in others for rival in words]
        against = text.embed(rivals) if rivals else asked[:0]
        against = against[against @ asked[0] < query.synonym_cosine]
        if not len(against):
            raise UnknownWordError(
                f"There is nothing to tell '{word}' from", "Give negatives, or the node a background vocabulary"
            )
        return cls(word, np.concatenate([asked, against]))


@dataclass(frozen=True)
class _Found:
    keys: Int64[np.ndarray, " n"]
    probability: Float32[np.ndarray, " n"]
    last_seen: Int64[np.ndarray, " n"]


def _matches(semantic_map: SemanticMap, query: TextQuery, word: str, hits: Sequence[_Found]) -> list[Match]:
    if not hits:
        return []
    keys = np.concatenate([hit.keys for hit in hits])
    probability = np.concatenate([hit.probability for hit in hits])
    seen = np.concatenate([hit.last_seen for hit in hits])
    centres = semantic_map.centres(keys)
    edge = semantic_map.voxel_size
    group = cluster(centres, max(query.gap, edge), max(query.vertical_gap, edge))
    sizes = np.bincount(group)
    matches = []
    for number in np.flatnonzero(sizes >= query.min_voxels):
        members = np.flatnonzero(group == number)
        matches.append(
            Match(
                word,
                float(probability[members].mean()),
                centres[members].mean(0, dtype=np.float64),
                box_around(centres[members], edge),
                int(seen[members].max()),
                keys[members],
            )
        )
    matches.sort(key=lambda match: match.score, reverse=True)
    return matches[: query.limit] if query.limit else matches


def _first_softmax(logits: Float32[np.ndarray, "n p"]) -> Float32[np.ndarray, " n"]:
    """Softmax probability of column 0."""
    return 1.0 / np.exp(np.minimum(logits - logits[:, :1], 80.0)).sum(1)


def _same(word: str) -> str:
    return " ".join(word.lower().replace("_", " ").replace("-", " ").split())
