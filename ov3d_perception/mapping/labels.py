"""The map in the words of one vocabulary: a label for each voxel, brought up to date only where the map has changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32

from ov3d_perception.language.narrow import NarrowText
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.mapping.semantic_map import SemanticMap


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
        self._narrow = NarrowText(semantic_map.basis, vocabulary.embeddings)
        self._label = np.zeros(semantic_map.max_voxels, np.int32)
        self._probability = np.zeros(semantic_map.max_voxels, np.float32)
        self._revision = 0

    def update(self) -> LabelledMap:
        """Label what has changed since the last call; returns the whole map."""
        revision = self.semantic_map.revision
        for chunk in self.semantic_map.chunks(since=self._revision):
            label, probability = self._narrow.classify(
                chunk.features, self.vocabulary.prompt_class, self.vocabulary.logit_scale
            )
            self._label[chunk.row], self._probability[chunk.row] = label, probability
        self._revision = revision
        rows, keys = self.semantic_map.occupied()
        return LabelledMap(self.semantic_map.centres(keys), self._label[rows], self._probability[rows])
