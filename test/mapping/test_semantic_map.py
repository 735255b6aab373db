"""The map against a dictionary that does the same slowly, and its bounds."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ov3d_perception.errors import IdentityError, MapError
from ov3d_perception.geometry.voxels import voxel_keys
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.mapping.voxel_table import VoxelRecords
from ov3d_perception.types import EncoderIdentity

IDENTITY = EncoderIdentity("tiny", "test", 5)
C, D = 3, 5
W = np.random.default_rng(7).normal(size=(C, D)).astype(np.float32)
STEP = np.sqrt(C) / 127  # how far one rounding to bytes may move a mean: a step in each channel, none larger than 1/127


def make(voxel_size: float = 1.0, **options: Any) -> SemanticMap:
    return SemanticMap(voxel_size, W, IDENTITY, **{"max_voxels": 10_000, **options})


def content(semantic_map: SemanticMap) -> dict[int, np.ndarray]:
    """Key to mean embedding."""
    found: dict[int, np.ndarray] = {}
    for chunk in semantic_map.chunks():
        found |= dict(zip(chunk.key.tolist(), chunk.features.astype(np.float64) @ semantic_map.basis, strict=True))
    return found


def unit(z: np.ndarray) -> np.ndarray:
    """z W, scaled to length 1."""
    return z @ W / np.linalg.norm(z @ W, axis=-1, keepdims=True)


def test_features_are_scaled_by_their_wide_length_and_averaged() -> None:
    semantic_map = make()
    first, second = np.float32([[1, 0, 0]]), np.float32([[0, 20, 0]])  # the longer one must not weigh more
    for z in (first, second):
        semantic_map.integrate(np.float32([[0.5, 0.5, 0.5]]), z, 1)
    (mean,) = content(semantic_map).values()
    np.testing.assert_allclose(mean, (unit(first) + unit(second))[0] / 2, atol=STEP * 2)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_agrees_with_a_dictionary(seed: int, scans: int) -> None:
    rng = np.random.default_rng(seed)
    semantic_map, sums = make(0.5), {}
    for scan in range(scans):
        centres = rng.uniform(-2, 2, (60, 3)).astype(np.float32)
        features = rng.normal(size=(60, C)).astype(np.float32)
        semantic_map.integrate(centres, features, scan + 1)
        keys = voxel_keys(centres, 0.5)
        for key in np.unique(keys):
            sums.setdefault(int(key), []).append(unit(features[keys == key]).mean(0))
    found = content(semantic_map)
    assert found.keys() == sums.keys()
    for key, observations in sums.items():
        np.testing.assert_allclose(found[key], np.mean(observations, 0), atol=3 * STEP)


def test_order_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    scans = [(rng.uniform(-3, 3, (80, 3)).astype(np.float32), rng.normal(size=(80, C)).astype(np.float32))] * 1
    scans += [(c + np.float32(0.3), f[::-1].copy()) for c, f in scans] + [(c * 0.5, f) for c, f in scans]
    ahead, back = make(), make()
    for stamp, (centres, features) in enumerate(scans):
        ahead.integrate(centres, features, stamp)
    for stamp, (centres, features) in reversed(list(enumerate(scans))):
        back.integrate(centres, features, stamp)
    one, other = content(ahead), content(back)
    assert one.keys() == other.keys()
    for key, mean in one.items():
        np.testing.assert_allclose(mean, other[key], atol=6 * STEP)
    assert ahead.newest == back.newest == 2


def test_capped_weight_follows_a_change() -> None:
    semantic_map = make(weight_cap=4)
    place, old, new = np.zeros((1, 3), np.float32), np.float32([[1, 0, 0]]), np.float32([[0, 1, 0]])
    for _ in range(100):
        semantic_map.integrate(place, old, 1)
    for _ in range(20):
        semantic_map.integrate(place, new, 2)
    (mean,) = content(semantic_map).values()
    np.testing.assert_allclose(mean, unit(new)[0], atol=0.02)  # (3/4) ** 20 = 0.3 % of the old is left


def test_full_map_forgets_the_oldest_first() -> None:
    semantic_map = make(max_voxels=1000)
    ones = np.ones((100, C), np.float32)
    for scan in range(30):
        centres = np.stack([np.arange(100) + 0.5, np.full(100, scan + 0.5), np.zeros(100)], 1).astype(np.float32)
        semantic_map.integrate(centres, ones, stamp=scan + 1)
        assert len(semantic_map) <= 1000
    (chunk,) = semantic_map.chunks()
    assert len(chunk.key) == len(semantic_map) and semantic_map.evicted == 3000 - len(semantic_map)
    assert chunk.last_seen.min() >= 20, "the newest 1000 of 3000 are stamps 21 to 30, less what makes room"
    assert (chunk.last_seen == 30).sum() == 100


HOUR = 3600 * 10**9


def line(number: int) -> np.ndarray:
    """A hundred places side by side, others for each number."""
    return np.stack([np.arange(100) + 0.5, np.full(100, number + 0.5), np.zeros(100)], 1).astype(np.float32)


@pytest.mark.parametrize("restored", [False, True])
def test_after_the_clock_was_set_back_a_full_map_keeps_what_was_just_seen(restored: bool) -> None:
    """A robot's clock runs an hour ahead until the network sets it; one part of the map is seen again after that."""
    semantic_map, ones = make(max_voxels=1000), np.ones((100, C), np.float32)
    for scan in range(10):
        semantic_map.integrate(line(scan), ones, 5 * HOUR + scan)
    semantic_map.integrate(line(3), ones, 4 * HOUR)
    assert semantic_map.newest == 4 * HOUR, "else what is published is stamped in the future"
    if restored:  # as after a change of the network; what is there counts as one past then
        semantic_map = SemanticMap.from_records(semantic_map.state(), semantic_map.records())
    for scan in range(10, 15):
        semantic_map.integrate(line(scan), ones, 4 * HOUR + scan)
        assert len(semantic_map) <= 1000
    found = content(semantic_map)
    kept = {scan: np.isin(voxel_keys(line(scan), 1.0), list(found)).mean() for scan in range(15)}
    assert [kept[scan] for scan in range(10, 15)] == [1.0] * 5, kept
    if not restored:
        assert kept[3] == 1.0 and kept[0] == kept[1] == kept[2] == 0.0, kept
        (chunk,) = semantic_map.chunks()
        assert set(chunk.last_seen[np.isin(chunk.key, voxel_keys(line(3), 1.0))]) == {4 * HOUR}


def test_scans_that_come_a_little_late_are_no_clock_that_was_set_back() -> None:
    semantic_map, ones = make(max_voxels=1000), np.ones((100, C), np.float32)
    for scan in range(10):
        semantic_map.integrate(line(scan), ones, HOUR - scan)
    semantic_map.integrate(line(10), ones, HOUR)
    assert semantic_map.newest == HOUR
    assert not np.isin(voxel_keys(line(9), 1.0), list(content(semantic_map))).any(), "the oldest by its stamp"


def test_clocks_that_are_set_back_again_and_again_keep_the_newest() -> None:
    """A bag that is played in a loop: each time a place that no round before has seen."""
    semantic_map, ones = make(max_voxels=1000), np.ones((100, C), np.float32)
    for scan in range(30):
        semantic_map.integrate(line(scan), ones, HOUR)
        semantic_map.integrate(line(scan), ones, 2 * HOUR)
    found = list(content(semantic_map))
    kept = [float(np.isin(voxel_keys(line(scan), 1.0), found).mean()) for scan in range(30)]
    assert kept[23:] == [1.0] * 7, kept


def test_eviction_in_the_midst_of_a_scan_mixes_nothing_up() -> None:
    """A scan that hits the oldest voxels and brings so many new ones that those have to go."""
    semantic_map = make(max_voxels=100)
    line = np.stack([np.arange(180) + 0.5, np.zeros(180), np.zeros(180)], 1).astype(np.float32)
    sign = np.random.default_rng(0).choice(np.float32([-1, 1]), 180)
    features = sign[:, None] * np.float32([[1, 0, 0]])
    for stamp, part in enumerate((slice(90, 180), slice(0, 140), slice(0, 100), slice(80, 180)), start=1):
        semantic_map.integrate(line[part], features[part], stamp)
        rows, keys = semantic_map.occupied()
        assert len(keys) == len(np.unique(keys)) == len(np.unique(rows)) <= 100
        for chunk in semantic_map.chunks():
            place = np.floor(semantic_map.centres(chunk.key)[:, 0]).astype(int)
            found = chunk.features @ semantic_map.basis @ unit(np.float32([1, 0, 0]))
            np.testing.assert_array_equal(np.sign(found), sign[place])


def test_scan_larger_than_the_bound() -> None:
    semantic_map = make(max_voxels=50)
    centres = np.stack([np.arange(200) + 0.5, np.zeros(200), np.zeros(200)], 1).astype(np.float32)
    for stamp in (1, 2):
        semantic_map.integrate(centres, np.ones((200, C), np.float32), stamp)
        assert 0 < len(semantic_map) <= 50


def test_memory_stays_bounded_and_rows_are_reused() -> None:
    semantic_map = make(max_voxels=500)
    for scan in range(100):
        centres = (np.random.default_rng(scan).uniform(0, 1e4, (50, 3))).astype(np.float32)
        semantic_map.integrate(centres, np.ones((50, C), np.float32), scan)
        rows, keys = semantic_map.occupied()
        assert len(np.unique(rows)) == len(rows) == len(np.unique(keys)) and rows.max() < 500
        if scan == 50:
            half = semantic_map.nbytes
    assert semantic_map.nbytes < half + 5000, "tiles and free rows come and go, nothing grows"


def test_farthest_first() -> None:
    """A line of voxels as long as five bounds; what stays lies within a tile's diagonal of the nearest ones."""
    semantic_map = make(max_voxels=1000, eviction="farthest", voxel_size=0.5)
    for start in range(0, 5000, 100):
        x = (np.arange(start, start + 100) + 0.5) * 0.5
        centres = np.stack([x, np.zeros(100), np.zeros(100)], 1).astype(np.float32)
        semantic_map.integrate(centres, np.ones((100, C), np.float32), 5000 - start, sensor=np.array([x[0], 0.0, 0.0]))
    (chunk,) = semantic_map.chunks()
    x = semantic_map.centres(chunk.key)[:, 0]
    assert 900 <= len(x) <= 1000 and x.max() > 2499 and x.min() > 2500 - 500 - 8 - 50
    with pytest.raises(MapError, match="oldest or farthest"):
        make(eviction="random")
    for wrong in ({"voxel_size": 0.0}, {"voxel_size": -0.1}, {"voxel_size": float("nan")}, {"max_voxels": 0}):
        with pytest.raises(MapError, match="Give numbers above zero"):
            make(**wrong)


def test_what_is_restored_is_the_same_map() -> None:
    semantic_map = make(weight_cap=7, eviction="farthest")
    for scan in range(9):
        rng = np.random.default_rng(scan % 3)
        centres, features = rng.uniform(-9, 9, (300, 3)), rng.normal(size=(300, C))
        semantic_map.integrate(centres.astype(np.float32), features.astype(np.float32), scan, np.zeros(3))
    again = SemanticMap.from_records(semantic_map.state(), semantic_map.records())
    (before,), (after,) = (_sorted(each.records()) for each in (semantic_map, again))
    for name in ("key", "features", "factor", "weight", "missed", "last_seen"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name), err_msg=name)
    mine, other = semantic_map.state(), again.state()
    assert mine.eviction == other.eviction and mine.weight_cap == other.weight_cap and mine.newest == other.newest
    np.testing.assert_array_equal(mine.head, other.head)
    for each in (semantic_map, again):
        each.integrate(np.zeros((1, 3), np.float32), np.ones((1, C), np.float32), 99)
    assert content(semantic_map).keys() == content(again).keys()


def test_absorbing_weighs_means_and_keeps_the_bound() -> None:
    """Three sightings of one kind here, one of another there: the mean stands for four."""
    here, there = make(), make()
    place, one, other = np.zeros((1, 3), np.float32), np.float32([[1, 0, 0]]), np.float32([[0, 1, 0]])
    for stamp in (1, 2, 3):
        here.integrate(place, one, stamp)
    there.integrate(place, other, 9)
    there.integrate(place + 5, other, 9)
    for records in there.records():
        here.merge(records)
    found = content(here)
    assert len(here) == 2 and here.newest == 9
    np.testing.assert_allclose(
        found[int(voxel_keys(place, 1.0)[0])], (3 * unit(one) + unit(other))[0] / 4, atol=3 * STEP
    )
    (records,) = here.records()
    assert sorted(records.weight.tolist()) == [1, 4]
    small = make(max_voxels=1)
    small.merge(records)
    assert len(small) == 1


def _sorted(records: Iterable[VoxelRecords]) -> list[VoxelRecords]:
    result = []
    for chunk in records:
        order = np.argsort(chunk.key)
        result.append(VoxelRecords(*(getattr(chunk, field.name)[order] for field in fields(chunk))))
    return result


def test_drop_older() -> None:
    semantic_map = make()
    for stamp in range(1, 6):
        semantic_map.integrate(np.float32([[stamp, 0, 0]]), np.ones((1, C), np.float32), stamp)
    assert semantic_map.drop_older(4) == 3
    assert sorted(np.concatenate([chunk.last_seen for chunk in semantic_map.chunks()])) == [4, 5]
    semantic_map.clear()
    assert len(semantic_map) == 0 and not list(semantic_map.chunks())


def test_only_what_changed_since() -> None:
    semantic_map = make()
    for x in (0.5, 1.5):
        semantic_map.integrate(np.float32([[x, 0, 0]]), np.ones((1, C), np.float32), 1)
    seen = semantic_map.revision
    semantic_map.integrate(np.float32([[1.5, 0, 0], [2.5, 0, 0]]), np.ones((2, C), np.float32), 2)
    (chunk,) = semantic_map.chunks(since=seen)
    np.testing.assert_allclose(semantic_map.centres(chunk.key)[:, 0], [1.5, 2.5])
    assert not list(semantic_map.chunks(since=semantic_map.revision))


def test_rows_that_are_not_finite_or_zero_are_left_out() -> None:
    centres = np.float32([[0, 0, 0], [1, 0, 0], [2, 0, 0], [np.nan, 0, 0]])
    features = np.float32([[1, 1, 1], [np.nan, 0, 0], [0, 0, 0], [1, 1, 1]])
    semantic_map = make()
    semantic_map.integrate(centres, features, 1)
    assert len(semantic_map) == 1
    semantic_map.integrate(centres[1:], features[1:], 1)
    semantic_map.integrate(centres[:0], features[:0], 1)
    assert len(semantic_map) == 1


def test_refuses_features_of_another_width_and_other_encoders() -> None:
    with pytest.raises(MapError, match="map of 3 channels"):
        make().integrate(np.zeros((1, 3), np.float32), np.zeros((1, 4), np.float32), 1)
    with pytest.raises(IdentityError, match=r"tiny/test/5.*words.*other/test/5"):
        make().require(EncoderIdentity("other", "test", 5), "words")


def test_voxels_of_some_rows() -> None:
    """Those that are wanted and there; their features are read only when asked for."""
    semantic_map = make()
    centres = np.float32([[0.5, 0.5, 0.5], [1.5, 0.5, 0.5], [2.5, 0.5, 0.5]])
    semantic_map.integrate(centres, np.eye(3, dtype=np.float32), 1)
    semantic_map.integrate(centres[1:], np.eye(3, dtype=np.float32)[1:], 2)
    rows, keys = semantic_map.occupied()
    assert semantic_map.drop_older(2) == 1
    everything = semantic_map.take(rows)
    np.testing.assert_array_equal(everything.key, keys[1:])
    some = semantic_map.take(rows, keep=lambda chunk: chunk.key == keys[2])
    np.testing.assert_array_equal(some.features, everything.features[1:])
    assert some.row.tolist() == rows[2:].tolist() and some.last_seen.tolist() == [2] and some.weight.tolist() == [2]
    assert len(semantic_map.take(rows, features=False).features) == 0


def test_reading_while_writing() -> None:
    """A reader sees each voxel whole: its feature always belongs to its key."""
    semantic_map = make(max_voxels=2000)
    failures = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            for chunk in semantic_map.chunks():
                side = semantic_map.centres(chunk.key)[:, 0] > 0
                plus = (chunk.features @ semantic_map.basis) @ W[0] > 0
                good = side == plus
                if not good.all():
                    failures.append(chunk)

    thread = threading.Thread(target=read)
    thread.start()
    for scan in range(200):
        centres = np.random.default_rng(scan).uniform(-50, 50, (100, 3)).astype(np.float32)
        features = np.where(np.floor(centres[:, :1]) + 0.5 > 0, 1.0, -1.0) * np.float32([1, 0, 0])
        semantic_map.integrate(centres, features.astype(np.float32), scan)
    done.set()
    thread.join()
    assert not failures
