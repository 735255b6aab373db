"""A label for each voxel of a map in one vocabulary, computed anew only where the map has changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32

from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.mapping.linear_algebra import product, row_lengths
from ov3d_perception.mapping.quantisation import normalise_rows
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.types import UNLABELLED

_ROWS = 4096  # at a time: scores of 200 prompts then stay in the cache


@dataclass(frozen=True)
class LabelledMap:
    """Voxel centres in the map's frame (metres), the class of each in the vocabulary, and its probability.

    label: UNLABELLED where a negative of the vocabulary fits best; the probability remains that of the best class.
    """

    centres: Float32[np.ndarray, "n 3"]
    label: Int32[np.ndarray, " n"]
    probability: Float32[np.ndarray, " n"]


class MapLabels:
    """Labels of a map's voxels in a vocabulary. Raises IdentityError if the two belong to different encoders."""

    def __init__(self, semantic_map: SemanticMap, vocabulary: Vocabulary) -> None:
        vocabulary.require(semantic_map.identity, "map's features")
        self.semantic_map = semantic_map
        self.vocabulary = vocabulary
        prompts = [vocabulary.embeddings, *([vocabulary.negatives] if len(vocabulary.negatives) else [])]
        self._text = product(semantic_map.basis, normalise_rows(np.concatenate(prompts)).T)
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
        """The most probable class and its probability: the softmax over all prompts, summed over the class's own.

        Negatives compete one by one, as in :meth:`TextClassifier.classify`.
        """
        words = self.vocabulary
        scale = np.float32(words.logit_scale) / np.maximum(row_lengths(features), 1e-12)
        likelihood = product(features, self._text) * scale[:, None]
        likelihood -= likelihood.max(1, keepdims=True)
        np.exp(likelihood, out=likelihood)
        own, negatives = np.split(likelihood, [len(words.prompts)], axis=1)
        of_class = product(np.ascontiguousarray(own), np.eye(len(words), dtype=np.float32)[words.prompt_class])
        label = of_class.argmax(1).astype(np.int32)
        best = of_class[np.arange(len(label)), label]
        label[negatives.max(1, initial=0.0) > best] = UNLABELLED
        return label, best / (of_class.sum(1) + negatives.sum(1))
