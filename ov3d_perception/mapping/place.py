"""A place of a map: the voxels there as examples of a thing, and those clear of it as other things."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from ov3d_perception.errors import MapError
from ov3d_perception.language.pictures import Patches
from ov3d_perception.mapping.quantisation import normalise_rows
from ov3d_perception.mapping.semantic_map import SemanticMap

FEWEST = 5
"""Voxels that a place must hold."""
_CLEAR = 2.0  # times as far from the centre as the place reaches


@dataclass(frozen=True)
class Place:
    """A ball around ``centre``, or where ``size`` is given an axis-parallel box; metres, in the map's frame."""

    centre: tuple[float, float, float]
    radius: float = 0.5
    size: tuple[float, float, float] | None = None

    def distance(self, xyz: Float32[np.ndarray, "n 3"]) -> Float64[np.ndarray, " n"]:
        """How far out points are: 1 on the border of the place, less inside."""
        offset = np.abs(xyz.astype(np.float64) - self.centre)
        if self.size is None:
            return np.sqrt((offset**2).sum(axis=1)) / self.radius
        return (offset / (np.array(self.size) / 2)).max(axis=1)

    def __str__(self) -> str:
        x, y, z = self.centre
        extent = f"radius {self.radius:g} m" if self.size is None else f"{'x'.join(f'{s:g}' for s in self.size)} m"
        return f"({x:g}, {y:g}, {z:g}), {extent}"


def examples_at(semantic_map: SemanticMap, place: Place) -> Patches:
    """Unit embeddings of the voxels at a place, and of those at least twice as far from its centre.

    A voxel's embedding is the mean of its scans' features, at the map's precision and in its basis.
    Raises MapError where the place is not a place or fewer than :data:`FEWEST` voxels are there.
    """
    if min(place.size or (place.radius,)) <= 0:
        raise MapError(f"A place of {place} holds nothing", "Give a radius, or edges, above zero")
    rows, keys = semantic_map.occupied()
    out = place.distance(semantic_map.centres(keys))
    inside, outside = rows[out <= 1.0], rows[out >= _CLEAR]
    if len(inside) < FEWEST:
        raise MapError(
            f"{len(inside)} of the map's {len(rows)} voxels are at {place}; {FEWEST} are needed",
            "Take a place from `ov3d map query`, or a larger radius",
        )
    here, others = (normalise_rows(semantic_map.take(some).features @ semantic_map.basis) for some in (inside, outside))
    return Patches(here, others)
