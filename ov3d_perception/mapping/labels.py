"""A label for each voxel of a map in one vocabulary, computed anew only where the map has changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32

from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.mapping.linear_algebra import product, row_lengths
from ov3d_perception.mapping.quantisation import normalise_rows
from ov3d_perception.mapping.semantic_map import SemanticMap

_ROWS = 4096  # at a time: scores of 200 prompts then stay in the cache


@dataclass(frozen=True)
class LabelledMap:
    """Voxel centres in the map's frame (metres), the class of each in the vocabulary, and its probability."""

    centres: Float32[np.ndarray, "n 3"]
    label: Int32[np.ndarray, " n"]
    probability: Float32[np.ndarray, " n"]


class MapLabels:
    """Labels of a map's voxels in a vocabulary. Raises IdentityError if the two belong to different encoders."""

    def __init__(self, semantic_map: SemanticMap, vocabulary: Vocabulary) -> None:
        vocabulary.require(semantic_map.identity, "map's features")
        self.semantic_map = semantic_map
        self.vocabulary = vocabulary
        self._text = product(semantic_map.basis, normalise_rows(vocabulary.embeddings).T)
        self._label = np.zeros(semantic_map.max_voxels, np.int32)
        self._probability = np.zeros(semantic_map.max_voxels, np.float32)
        self._revision = 0

    def update(self) -> LabelledMap:
        """Label the voxels that have changed since the last call; returns the whole map."""
        revision = self.semantic_map.revision
        for chunk in self.semantic_map.chunks(since=self._revision):
            for start in range(0, len(chunk.row), _ROWS):
                part = slice(start, start + _ROWS)
                label, probability = self._classify(chunk.features[part])
                self._label[chunk.row[part]], self._probability[chunk.row[part]] = label, probability
        self._revision = revision
        rows, keys = self.semantic_map.occupied()
        return LabelledMap(self.semantic_map.centres(keys), self._label[rows], self._probability[rows])

    def _classify(
        self, features: Float32[np.ndarray, "n c"]
    ) -> tuple[Int32[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
        """The most probable class and its probability: the softmax over all prompts, summed over the class's own."""
        words = self.vocabulary
        scale = np.float32(words.logit_scale) / np.maximum(row_lengths(features), 1e-12)
        likelihood = product(features, self._text) * scale[:, None]
        likelihood -= likelihood.max(1, keepdims=True)
        np.exp(likelihood, out=likelihood)
        of_class = product(likelihood, np.eye(len(words), dtype=np.float32)[words.prompt_class])
        label = of_class.argmax(1).astype(np.int32)
        return label, of_class[np.arange(len(label)), label] / of_class.sum(1)
