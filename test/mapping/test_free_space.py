"""What a scan looks through, in scenes where the answer is plain."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ov3d_perception.geometry.voxels import voxel_centres, voxel_keys
from ov3d_perception.mapping.free_space import REACH, passed_voxels, seen_from, seen_through
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.types import EncoderIdentity


def rays(elevations_deg: np.ndarray, azimuths_deg: np.ndarray) -> np.ndarray:
    """Unit directions, (n, 3)."""
    e, a = np.meshgrid(np.radians(elevations_deg), np.radians(azimuths_deg), indexing="ij")
    return np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], -1).reshape(-1, 3)


def street(height: float = 1.8, wall: float = 30.0) -> np.ndarray:
    """Returns of a 32-beam LiDAR on a flat road, with a wall all around at ``wall`` metres."""
    directions = rays(np.linspace(-25, 10, 32), np.arange(0, 360, 0.3))
    across = np.hypot(directions[:, 0], directions[:, 1])
    with np.errstate(divide="ignore"):
        to_road = np.where(directions[:, 2] < 0, -height / directions[:, 2], np.inf)
    return directions * np.minimum(to_road, wall / across)[:, None]


def test_a_place_before_the_wall_is_seen_through_and_one_behind_is_not() -> None:
    returns = rays(np.arange(-5, 5, 0.2), np.arange(-10, 10, 0.2)) * 20.0
    ahead = rays(np.array([0.1]), np.array([0.1]))
    assert seen_through(ahead * 10.0, 0.1, returns).all()
    assert not seen_through(ahead * 25.0, 0.1, returns).any(), "hidden by the wall"
    assert not seen_through(ahead * 19.8, 0.1, returns).any(), "the wall itself"
    assert not seen_through(-ahead * 10.0, 0.1, returns).any(), "no ray went there"


def test_thin_things_beside_the_ray_are_not_cleared() -> None:
    """A pole that some rays hit: its voxels lie in cells whose neighbours end at it."""
    returns = rays(np.array([0.0]), np.arange(-10, 10, 0.3)) * 30.0
    hit = np.abs(np.degrees(np.arctan2(returns[:, 1], returns[:, 0]))) < 0.2
    returns[hit] *= 10.0 / 30.0
    pole = rays(np.array([0.0]), np.array([-0.35, 0.0, 0.35])) * 10.0
    assert not seen_through(pole, 0.1, returns).any()
    assert seen_through(rays(np.array([0.0]), np.array([-5.0])) * 10.0, 0.1, returns).all()


def test_the_road_and_the_wall_never_clear_themselves() -> None:
    """However the grid of a map cuts them, no voxel of the surfaces that are measured is seen through."""
    returns = street()
    for cell in (0.1, 0.2, 0.5):
        voxels = np.unique(np.floor(returns / cell), axis=0) * cell + cell / 2
        gone = seen_through(voxels, cell, returns)
        assert gone.mean() < 1e-3, f"{gone.sum()} of {len(voxels)} at {cell} m"


def test_the_next_scan_does_not_clear_what_the_last_one_saw() -> None:
    """The same street from 1 m farther on."""
    returns = street()
    voxels = np.unique(np.floor(returns / 0.2), axis=0) * 0.2 + 0.1 - [1.0, 0.0, 0.0]
    assert seen_through(voxels, 0.2, returns).mean() < 0.01


@settings(max_examples=30)
@given(st.floats(-3.1, 3.1), st.floats(5.0, 25.0))
def test_a_car_that_has_left_is_seen_through(azimuth: float, distance: float) -> None:
    """A block 1.0 to 1.4 m above the road anywhere on it: rays that go through its middle reach the wall behind."""
    heights = np.linspace(-0.8, -0.4, 9)
    place = np.array([[distance * np.cos(azimuth), distance * np.sin(azimuth), z] for z in heights])
    assert seen_through(place, 0.1, street(wall=39.0)).any()


def test_azimuth_wraps() -> None:
    returns = rays(np.array([0.0]), np.arange(178.0, 182.0, 0.1)) * 30.0
    places = rays(np.array([0.0]), np.array([179.9, 180.0, 180.1])) * 10.0
    assert seen_through(places, 0.1, returns).all()


def test_nothing_at_all() -> None:
    nothing = np.empty((0, 3), np.float32)
    assert seen_through(nothing, 0.1, street()).shape == (0,)
    assert not seen_through(np.ones((4, 3)), 0.1, nothing).any()


def test_voxels_that_are_passed() -> None:
    """Before a wall, far from zero; a return that is not finite says nothing."""
    sensor = np.array([1000.0, -500.0, 2.0])
    returns = rays(np.arange(-5, 5, 0.2), np.arange(-10, 10, 0.2)) * 20.0
    centres = np.concatenate([returns + sensor, np.full((1, 3), np.nan)]).astype(np.float32)
    keys = voxel_keys(sensor + np.array([[25.0, 0, 0], [10, 0, 0], [-10, 0, 0], [8, 0.5, 0]]), 0.1)
    assert passed_voxels(keys, 0.1, sensor, centres).tolist() == [1, 3]


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.2, 1.0]), st.sampled_from([0.0, 1.0, 0.999]))
def test_places_of_voxels_are_exact_within_reach(seed: int, voxel_size: float, far: float) -> None:
    """However far from zero, to the very corner of what keys can say; those beyond do not come out within."""
    rng = np.random.default_rng(seed)
    edge = voxel_size * 2**20
    origin = far * (edge - 1) * rng.choice([-1.0, 1.0], 3)
    spread = rng.choice([5.0, 50.0, 5000.0], (500, 1))
    keys = voxel_keys(np.clip(origin + spread * rng.normal(size=(500, 3)), -edge, edge * (1 - 1e-9)), voxel_size)
    places, true = np.stack(seen_from(origin, keys, voxel_size), 1), voxel_centres(keys, voxel_size) - origin
    near = np.linalg.norm(true, axis=1) < REACH
    np.testing.assert_allclose(places[near], true[near], atol=3e-5)
    assert (np.linalg.norm(places[~near].astype(np.float64), axis=1) > REACH - 1e-4).all()


def test_rays_in_any_part_of_the_sphere() -> None:
    """The same scene, turned up and down; what lies above and below all rays is not seen through."""
    ahead = np.array([[10.0, 0.0, 0.0], [25.0, 0.0, 0.0]])
    for pitch in np.radians([-80, -30, 0, 29.6, 84]):
        turn = np.array([[np.cos(pitch), 0, -np.sin(pitch)], [0, 1, 0], [np.sin(pitch), 0, np.cos(pitch)]])
        returns = rays(np.arange(-5, 5, 0.2), np.arange(-5, 5, 0.2)) * 20.0
        assert seen_through(ahead @ turn.T, 0.1, returns @ turn.T).tolist() == [True, False], pitch
        assert not seen_through(np.array([[0, 0, 10.0], [0, 0, -10.0]]), 0.1, returns @ turn.T).any(), "no ray there"


IDENTITY = EncoderIdentity("tiny", "test", 2)
CAR, WORLD = np.float32([[1, 0]]), np.float32([[0, 1]])


def test_what_drives_away_leaves_the_map_and_what_stands_stays() -> None:
    """A box 8 m ahead for two scans of twelve; then the street again. The sensor stands at (100, 50, 1.8)."""
    sensor = np.array([100.0, 50.0, 1.8])
    semantic_map = SemanticMap(0.2, np.eye(2, dtype=np.float32), IDENTITY)
    empty = street()
    axes = [np.arange(8, 9, 0.1), np.arange(-1, 1, 0.1), np.arange(-0.9, 0.1, 0.1)]
    car = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    hidden = (np.hypot(*empty.T[:2]) > 8) & (np.abs(np.arctan2(empty[:, 1], empty[:, 0])) < np.arctan2(1.0, 8.0))
    rng = np.random.default_rng(0)
    for scan in range(12):
        returns = np.concatenate([empty[~hidden], car]) if scan < 2 else empty
        kind = (
            np.concatenate([np.zeros((~hidden).sum(), int), np.ones(len(car), int)])
            if scan < 2
            else np.zeros(len(empty), int)
        )
        turned = returns + rng.normal(0, 0.01, returns.shape)
        features = np.where(kind[:, None] == 1, CAR, WORLD).astype(np.float32)
        semantic_map.integrate((turned + sensor).astype(np.float32), features, scan + 1, sensor)
        if scan == 1:
            before = _count(semantic_map)
    after = _count(semantic_map)
    assert before["car"] > 300
    assert after["car"] < 0.2 * before["car"]
    assert after["world"] >= before["world"]


def test_what_a_row_has_become_meanwhile_is_not_missed() -> None:
    """A voxel that has taken the place of one that was looked through."""
    semantic_map = SemanticMap(0.2, np.eye(2, dtype=np.float32), IDENTITY)
    semantic_map.integrate(np.float32([[1, 1, 1], [5, 5, 1]]), np.repeat(CAR, 2, 0), 1)
    rows, keys = semantic_map.occupied()
    keys[0] += 1
    for _ in range(3):
        semantic_map._revision += 1
        semantic_map._clear(rows[:0], rows.astype(np.int32), keys)
    assert semantic_map.occupied()[0].tolist() == rows[:1].tolist(), "the other was missed three times"


def _count(semantic_map: SemanticMap) -> dict[str, int]:
    features = np.concatenate([chunk.features for chunk in semantic_map.chunks()])
    return {"car": int((features[:, 0] > features[:, 1]).sum()), "world": int((features[:, 0] < features[:, 1]).sum())}
