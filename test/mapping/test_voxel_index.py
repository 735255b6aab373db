"""The hash table and the tiles against plain dictionaries."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ov3d_perception.geometry.voxels import pack, voxel_centres, voxel_keys
from ov3d_perception.mapping.tiles import Tiles
from ov3d_perception.mapping.voxel_index import VoxelIndex

CAPACITY = 40  # a few buckets only, so that keys pass from one to the next


@settings(max_examples=100)
@given(st.lists(st.tuples(st.lists(st.integers(0, 60), max_size=20), st.integers(0, 60)), max_size=12))
def test_index_agrees_with_a_dictionary(batches: list[tuple[list[int], int]]) -> None:
    """Batches of keys come, and those up to a limit go again."""
    key_of, table = np.full(CAPACITY, -1, np.int64), {}
    index = VoxelIndex(CAPACITY, key_of)
    for batch, limit in batches:
        free = sorted(set(range(CAPACITY)) - set(table.values()))
        new = sorted(set(batch) - table.keys())[: len(free)]
        rows = np.array(free[: len(new)], np.int64)
        key_of[rows] = new
        index.insert(np.array(new, np.int64), rows)
        table |= dict(zip(new, rows.tolist(), strict=True))
        gone = [key for key in table if key < limit]
        old = np.array([table.pop(key) for key in gone], np.int64)
        index.remove(np.array(gone, np.int64), old)
        key_of[old] = -1
        asked = np.arange(-1, 62)
        np.testing.assert_array_equal(index.find(asked), [table.get(key, -1) for key in asked.tolist()])
        assert len(index) == len(table)


def test_index_full_to_its_capacity_for_long() -> None:
    """A thousand batches come and go: no key is lost, and nothing that has gone makes the search longer."""
    rng, capacity = np.random.default_rng(0), 2000
    key_of = rng.choice(1 << 60, capacity, replace=False)
    index = VoxelIndex(capacity, key_of)
    index.insert(key_of.copy(), np.arange(capacity))
    for _ in range(300):
        rows = rng.choice(capacity, 100, replace=False)
        index.remove(key_of[rows], rows)
        key_of[rows] = rng.choice(1 << 60, 100, replace=False)
        index.insert(key_of[rows], rows)
    np.testing.assert_array_equal(index.find(key_of), np.arange(capacity))
    index.remove(key_of.copy(), np.arange(capacity))
    assert len(index) == 0 and not index._passed.any() and not index._tag.any()


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.05, 0.2, 1.0, 20.0]))
def test_tiles_hold_what_is_near(seed: int, voxel_size: float) -> None:
    rng = np.random.default_rng(seed)
    keys = np.unique(voxel_keys(rng.uniform(-100, 100, (300, 3)), voxel_size))
    rows = rng.permutation(len(keys))
    tiles = Tiles(voxel_size)
    for part in np.array_split(np.arange(len(keys)), 3):
        tiles.add(keys[part], rows[part])
    sensor = rng.uniform(-50, 50, 3)
    found = tiles.around(sensor, 40.0)
    assert len(set(found.tolist())) == len(found)
    near = np.linalg.norm((voxel_centres(keys, voxel_size) - sensor)[:, :2], axis=1) < 40.0
    assert set(rows[near].tolist()) <= set(found.tolist())
    weight = np.ones(len(keys), np.uint8)
    weight[rows[near]] = 0
    tiles.discard(keys[near], weight)
    assert not set(tiles.around(sensor, 40.0).tolist()) & set(rows[near].tolist())
    assert set(tiles.around(sensor, 1e3).tolist()) == set(rows[~near].tolist())
    tiles.add(keys[near], rows[near])
    assert sorted(tiles.around(sensor, 1e3).tolist()) == list(range(len(keys))), "in the room that others left"


def test_farthest_tiles() -> None:
    keys = pack(np.array([[x, 0, 0] for x in range(0, 1000, 10)]))
    tiles = Tiles(0.2)
    tiles.add(keys, np.arange(100))
    assert set(range(90, 100)) <= set(tiles.farthest(np.zeros(3), 10).tolist()) <= set(range(80, 100))
    assert set(range(10)) <= set(tiles.farthest(np.array([200.0, 0, 0]), 10).tolist()) <= set(range(20))
    assert len(tiles.farthest(np.zeros(3), 1000)) == 100
