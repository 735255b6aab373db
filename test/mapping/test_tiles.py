"""Tiles of the ground against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from ov3d_perception.geometry.voxels import voxel_centres, voxel_keys
from ov3d_perception.mapping.tiles import Tiles


@pytest.mark.parametrize("place", [(0.0, 0.0, 1.0), (37.0, -21.5, 2.0), (-400.0, 9.0, 0.0)])
@pytest.mark.parametrize("reach", [3.0, 25.0, 40.0])
def test_what_is_around_a_place(place: tuple[float, float, float], reach: float) -> None:
    """All rows within reach, and none farther than a tile's diagonal beyond it."""
    rng, voxel = np.random.default_rng(0), 0.2
    keys = np.unique(voxel_keys(rng.uniform(-60, 60, (20_000, 3)) * [1, 1, 0.05], voxel))
    tiles, rows = Tiles(voxel), rng.permutation(len(keys))
    tiles.add(keys, rows)
    found = tiles.around(np.array(place), reach)
    away = np.empty(len(keys))
    away[rows] = np.hypot(*(voxel_centres(keys, voxel)[:, :2] - place[:2]).T)
    assert len(np.unique(found)) == len(found)
    assert set(np.flatnonzero(away <= reach).tolist()) <= set(found.tolist())
    assert away[found].max(initial=0) < reach + np.sqrt(2) * 6.5, "edges are 32 voxels"
