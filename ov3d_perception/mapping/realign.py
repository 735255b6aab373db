"""A map of one network in the coordinates of another of the same encoder, so that a swapped network costs no map.

A voxel's coordinates u stand for the embedding e = u B, B being the orthonormal basis of the old head's row space
(:class:`quantisation.Projection`). The new head has the basis B'. The coordinates v that come nearest, by least squares
in the encoder's space, are

    argmin_v |v B' - e|^2  =  e B'^T  =  u (B B'^T).

What is lost is the part of e outside the new head's row space. Networks that were trained on from one another have
nearly the same; where W' = A W, or the head was frozen, nothing is lost. Words are scored in the encoder's space, so
the voxels answer as before, up to that loss and one more rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from ov3d_perception.errors import IdentityError
from ov3d_perception.mapping.basis import Basis
from ov3d_perception.mapping.linear_algebra import product
from ov3d_perception.mapping.quantisation import Projection, Quantiser, dequantise
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.mapping.voxel_table import VoxelRecords

MOST_LOST = 0.1
"""Of the squared length of the voxels' embeddings, on average; with more, a map is refused."""


def realign(semantic_map: SemanticMap, basis: Basis, most_lost: float = MOST_LOST) -> tuple[SemanticMap, float]:
    """A new map with the same voxels for the features of ``basis``, and the share of squared length that was lost.

    The old map may be asked meanwhile, and is not changed; what is integrated into it meanwhile may be missing.
    Raises IdentityError where the encoders differ, or more than ``most_lost`` would be lost.
    """
    semantic_map.require(basis.identity, "network")
    matrix = semantic_map.basis @ Projection(basis.weights).basis.T
    lost = _lost(semantic_map, matrix)
    if lost > most_lost:
        raise IdentityError(
            f"The map was made by another network (basis {semantic_map.basis_id[:12]}), and {100 * lost:.0f} % of what "
            f"its voxels know would be lost in this one's coordinates ({basis.basis_id[:12]}); {100 * most_lost:.0f} % "
            "are allowed",
            "Call ~/clear to start a new map, or bring back the former checkpoint",
        )
    state = replace(semantic_map.state(), head=np.asarray(basis.weights, np.float32), logit_scale=basis.logit_scale)
    result = SemanticMap.from_records(state, _moved(semantic_map, matrix))
    result.evicted = semantic_map.evicted
    return result, lost


def _lost(semantic_map: SemanticMap, matrix: Float32[np.ndarray, "c k"]) -> float:
    """Share of the voxels' squared length that the matrix takes away."""
    before = after = 0.0
    for chunk in semantic_map.records():
        values = dequantise(chunk.features, chunk.factor)
        before += float(np.square(values).sum(dtype=np.float64))
        after += float(np.square(product(values, matrix)).sum(dtype=np.float64))
    return max(0.0, 1.0 - after / before) if before else 0.0


def _moved(semantic_map: SemanticMap, matrix: Float32[np.ndarray, "c k"]) -> Iterator[VoxelRecords]:
    quantise = Quantiser(matrix.shape[1])
    for chunk in semantic_map.records():
        values = product(dequantise(chunk.features, chunk.factor), matrix)
        features, factor = quantise(values, np.arange(len(chunk)), 0)
        yield replace(chunk, features=features, factor=factor)
