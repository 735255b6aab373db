"""A map that is being built and asked: the semantic map, the network it belongs to, and the words it is asked in.

The nodes, the map tools and Python programs share this class; it knows nothing of ROS. All methods may be called from
several threads. Each reads the map once and works on that object, since :meth:`MapSession.clear` and
:meth:`MapSession.load` may replace it at any time.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from ov3d_perception.errors import IdentityError, MapFileError, UnknownWordError
from ov3d_perception.language.vocabulary import TextSource
from ov3d_perception.language.words import distinct_words
from ov3d_perception.mapping.basis import Basis
from ov3d_perception.mapping.labels import LabelledMap, MapLabels
from ov3d_perception.mapping.map_words import MapWords
from ov3d_perception.mapping.query import Match, TextQuery, ask
from ov3d_perception.mapping.realign import MOST_LOST, realign
from ov3d_perception.mapping.save_load import MapInfo, load_map, merge_into, read_info, read_words, save_map
from ov3d_perception.mapping.semantic_map import SemanticMap


@dataclass(frozen=True)
class MapSettings:
    """How a new map is made; see :class:`SemanticMap`. voxel_size: metres, 0 for that of the network's voxels.

    most_lost: of a map's features, where another network takes over; with more, the map is refused (:mod:`realign`).
    """

    frame_id: str = "map"
    voxel_size: float = 0.2
    max_voxels: int = 1_000_000
    eviction: str = "oldest"
    most_lost: float = MOST_LOST


@dataclass(frozen=True)
class Answer:
    """What a map answers; as text, a line.

    words: those that were asked, each once. unknown: of these, those that the text source does not know, and the
    nearest ones that it does. note: why nothing may have been found, or "". frame_id: of the matches. measured_from:
    the place that distances are measured from, for people.
    """

    words: Sequence[str]
    matches: Sequence[Match]
    unknown: Mapping[str, Sequence[str]]
    note: str = ""
    frame_id: str = "map"
    measured_from: str = ""

    def __str__(self) -> str:
        """A clause a word, with its best match: "car: 3, best 0.61 at (13.1, -4.7, 0.6) in map, 13.9 m from the origin
        of base_link; giraffe: nothing above the threshold"; then the note."""
        clauses = []
        for word in self.words:
            found = [match for match in self.matches if match.word == word]
            if word in self.unknown:
                near = ", ".join(self.unknown[word])
                clauses.append(f"{word}: unknown to the text bank" + (f", nearest: {near}" if near else ""))
            elif not found:
                clauses.append(f"{word}: nothing above the threshold")
            else:
                best = max(found, key=lambda match: match.score)
                x, y, z = best.centroid
                away = "" if math.isnan(best.distance) else f", {best.distance:.1f} m from {self.measured_from}"
                clauses.append(
                    f"{word}: {len(found)}, best {best.score:.2f} at ({x:.1f}, {y:.1f}, {z:.1f}) in "
                    f"{self.frame_id}{away}"
                )
        return "; ".join(clauses) + (f". {self.note}." if self.note else "")


class MapSession:
    """Owns a map, its network's basis and its words.

    settings: for new maps. words: None until a text source is loaded; assign a whole new value to replace it.
    basis: that of the features to come, None until it is known. realigned: what the last change of the network cost the
    map, as a share of its features' squared length; None without such a change. former: basis ids that the map has had.
    """

    def __init__(self, settings: MapSettings | None = None, words: MapWords | None = None) -> None:
        self.settings = settings or MapSettings()
        self.words = words
        self.basis: Basis | None = None
        self.realigned: float | None = None
        self.former: frozenset[str] = frozenset()
        self._map: SemanticMap | None = None
        self._labels: MapLabels | None = None
        self._exchange = threading.Lock()  # held while the map is made or replaced
        self._labelling = threading.Lock()  # held while the labels are brought up to date

    @classmethod
    def open(cls, path: Path | str, words: MapWords | None = None) -> MapSession:
        """A session on a file's map. words: None takes those saved with it.

        Raises MapFileError, also where none were saved; IdentityError if the words are of another encoder.
        """
        semantic_map, words = load_map(path), words or read_words(path)
        if words is None:
            raise MapFileError(f"{path} was saved without words", "Name a text bank of its encoder")
        semantic_map.require(words.text.identity, "words")
        session = cls(MapSettings(semantic_map.frame_id, semantic_map.voxel_size), words)
        session.adopt(semantic_map)
        return session

    @property
    def map(self) -> SemanticMap | None:
        """The map, None while there is none. Read it once: it may be replaced at any time."""
        return self._map

    # -- building ----------------------------------------------------------------------------------------------------

    def map_of(self, basis_id: str, voxel_size: float) -> SemanticMap | None:
        """The map for features of this basis, made if there is none yet; None while their basis is unknown.

        A map of another network of the same encoder is brought into this one's coordinates (:func:`realign.realign`).
        voxel_size: of the features, metres. Raises IdentityError where that would cost too much, or the encoder is
        another one.
        """
        with self._exchange:
            basis, settings = self.basis, self.settings
            if self._map is not None:
                if basis_id != self._map.basis_id:
                    if basis is None or basis.basis_id != basis_id:
                        raise IdentityError(
                            f"The features come from another network (basis {basis_id[:12]}) than the map's "
                            f"({self._map.basis_id[:12]}, {self._map.identity})",
                            "Call ~/clear to start a new map, or bring back the former checkpoint",
                        )
                    self._map = self._realigned(self._map, basis)
                    self._labels = None
                return self._map
            if basis is None or basis.basis_id != basis_id:
                return None
            self._map = SemanticMap(
                settings.voxel_size or voxel_size,
                basis.weights,
                basis.identity,
                basis.logit_scale,
                settings.max_voxels,
                settings.frame_id,
                eviction=settings.eviction,
            )
            return self._map

    def integrate(
        self,
        basis_id: str,
        voxel_size: float,
        centres: Float32[np.ndarray, "v 3"],
        features: Float32[np.ndarray, "v c"],
        stamp: int,
        sensor: Float64[np.ndarray, " 3"] | None = None,
        max_age: float = 0.0,
    ) -> bool:
        """Add point features to the map that :meth:`map_of` gives; False, and nothing happens, if it gives none.

        centres, features, stamp (ns), sensor: as :meth:`SemanticMap.integrate`. max_age: forget voxels that were last
        seen more than this before ``stamp``, seconds; 0 forgets none. Raises IdentityError, MapError.
        """
        semantic_map = self.map_of(basis_id, voxel_size)
        if semantic_map is None:
            return False
        semantic_map.integrate(centres, features, stamp, sensor)
        if max_age > 0:  # by this scan, not the newest one: after a clock was set back nothing would stay
            semantic_map.drop_older(stamp - int(max_age * 1e9))
        return True

    def clear(self) -> int:
        """Forget the map, of whichever network; returns how many voxels it had."""
        with self._exchange:
            count = len(self._map) if self._map is not None else 0
            self._map = self._labels = None
            self.former = frozenset()
        return count

    def adopt(self, semantic_map: SemanticMap) -> SemanticMap:
        """Make this the map, in the coordinates of the present network where there is one; returns it.

        Raises IdentityError as :meth:`map_of`.
        """
        with self._exchange:
            present = self._map
            basis = Basis(present.head, present.identity, present.logit_scale) if present is not None else self.basis
            if basis is not None and basis.basis_id != semantic_map.basis_id:
                semantic_map = self._realigned(semantic_map, basis)
            self._map, self._labels = semantic_map, None
            return semantic_map

    def _realigned(self, semantic_map: SemanticMap, basis: Basis) -> SemanticMap:
        result, self.realigned = realign(semantic_map, basis, self.settings.most_lost)
        self.former |= {semantic_map.basis_id}
        return result

    # -- files -------------------------------------------------------------------------------------------------------

    def save(self, path: Path | str) -> tuple[MapInfo, SemanticMap, int]:
        """Write the map to a file: what the file says of itself, the map that is in it, and that map's revision.

        Raises MapFileError if there is no map or the file cannot be written.
        """
        semantic_map = self._map
        if semantic_map is None:
            raise MapFileError("Nothing has been mapped yet", "Drive on, or see /diagnostics for what hinders")
        revision = semantic_map.revision
        return save_map(semantic_map, path, self.words), semantic_map, revision

    def load(self, path: Path | str) -> tuple[MapInfo, SemanticMap]:
        """Make a file's map the map. Raises MapFileError or IdentityError; then nothing has changed."""
        info, settings = read_info(path), self.settings
        if info.frame_id != settings.frame_id:
            raise MapFileError(
                f"{path} is a map in '{info.frame_id}', this node keeps one in '{settings.frame_id}'",
                "Start the node with that map_frame, or name another file",
            )
        return info, self.adopt(load_map(path, settings.max_voxels, settings.eviction))

    def merge(self, path: Path | str) -> MapInfo:
        """Add a file's voxels to the map, or :meth:`load` it if there is none."""
        semantic_map = self._map
        return self.load(path)[0] if semantic_map is None else merge_into(semantic_map, path)

    # -- asking ------------------------------------------------------------------------------------------------------

    def ask(self, query: TextQuery | Sequence[str] | str, measured_from: str = "") -> Answer:
        """The matches of all words that the text source knows. A query without a background gets the words' classes.

        query: or its words alone; one string is one word. measured_from: names the query's position in the answer.
        Raises UnknownWordError if it knows none of the words, or if there is no text source; else as :func:`ask`.
        """
        words, semantic_map, frame = self.words, self._map, self.settings.frame_id
        if words is None:
            raise UnknownWordError(
                "There is no text source", "Set the parameter `text`; /diagnostics says what is wrong with it"
            )
        if not isinstance(query, TextQuery):
            query = TextQuery([query] if isinstance(query, str) else query)
        asked = distinct_words(query.words)
        unknown = _unknown(asked, words.text)
        if asked and len(unknown) == len(asked):
            words.text.embed(asked)  # raises with the full list
        known = [word for word in asked if word not in unknown]
        if semantic_map is None:
            return Answer(asked, (), unknown, "Nothing has been mapped yet", frame)
        query = replace(query, words=known, background=query.background or words.competing)
        matches = ask(semantic_map, query, words.text)
        note = "" if matches else self.shortage(query.min_observations)
        return Answer(asked, matches, unknown, note, frame, measured_from or place(query.position, frame))

    def shortage(self, min_observations: int) -> str:
        """Why a query finds nothing wherever it looks: no voxel has been seen often enough; "" where one has."""
        semantic_map = self._map
        if semantic_map is None or not len(semantic_map) or semantic_map.observed(min_observations):
            return ""
        remedy = "Send more scans"
        if semantic_map.evicted >= semantic_map.max_voxels:
            remedy = (
                f"It holds {semantic_map.max_voxels} at most and has forgotten {semantic_map.evicted}: raise max_voxels"
            )
        return (
            f"None of the map's {len(semantic_map)} voxels has been seen in {min_observations} scans yet "
            f"(min_observations). {remedy}, or ask with min_observations: 1"
        )

    def labelled(self) -> tuple[SemanticMap, LabelledMap, tuple[str, ...]] | None:
        """The map, its voxels labelled in the words' classes, and the classes' names; None without a map or words.

        Only voxels that have changed since the last call are labelled anew. Raises IdentityError.
        """
        semantic_map, words = self._map, self.words
        if semantic_map is None or words is None:
            return None
        with self._labelling:
            labels = self._labels
            if labels is None or labels.semantic_map is not semantic_map or labels.vocabulary is not words.vocabulary:
                labels = self._labels = MapLabels(semantic_map, words.vocabulary)
            return semantic_map, labels.update(), words.vocabulary.names


def place(position: Sequence[float] | Float64[np.ndarray, " 3"] | None, frame: str) -> str:
    """A position for people: "(1, 2, 0) in map", "the origin of base_link"."""
    if position is None or not np.any(position):
        return f"the origin of {frame}"
    return f"({', '.join(f'{value:.4g}' for value in position)}) in {frame}"


def _unknown(words: Sequence[str], text: TextSource) -> dict[str, Sequence[str]]:
    """The words that the text source cannot embed, and the nearest ones that it can."""
    unknown: dict[str, Sequence[str]] = {}
    for word in words:
        try:
            text.embed([word])
        except UnknownWordError as error:
            unknown[word] = error.near
    return unknown
