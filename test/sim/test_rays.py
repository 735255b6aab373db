"""Ray casting: hand-computed hits, and the slab test of a box as oracle."""

from __future__ import annotations

import numpy as np
import pytest

from ov3d_perception.sim import classes
from ov3d_perception.sim.meshes import Surface, box, empty, place
from ov3d_perception.sim.rays import Layer, RayScene
from ov3d_perception.types import UNLABELLED

GREY = Surface((0.5, 0.5, 0.5))


def test_hand_placed_box_is_hit_with_its_label() -> None:
    cube = box((2, 2, 2), (0, 0, 0), GREY).tagged(classes.CAR, 7).moved(place(5, 0, 0))
    hits = RayScene(Layer(cube)).cast(np.zeros((2, 3)), np.array([[1.0, 0, 0], [0, 1, 0]]))
    assert hits.distance[0] == pytest.approx(4.0, abs=1e-5) and np.isinf(hits.distance[1])
    assert hits.label.tolist() == [classes.CAR, UNLABELLED]
    assert hits.instance.tolist() == [7, 0]
    assert hits.rows.tolist() == [0]
    np.testing.assert_allclose(hits.normal, [[-1, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(hits.uv, [[0, 0]], atol=1e-5)  # the face's centre, in the box's own frame


def test_the_nearest_layer_wins_and_empty_layers_do_not_matter() -> None:
    near = box((1, 1, 1), (3, 0, 0), GREY).tagged(classes.PEDESTRIAN, 1)
    far = box((1, 9, 9), (8, 0, 0), GREY).tagged(classes.MANMADE)
    scene = RayScene(Layer(far), Layer(empty()), Layer(near))
    hits = scene.cast(np.zeros((2, 3)), np.array([[1, 0, 0], [0.8, 0.6, 0]]))
    assert hits.label.tolist() == [classes.PEDESTRIAN, UNLABELLED]
    hits = scene.cast(np.array([[0, 2, 0.0]]), np.array([[1.0, 0, 0]]))
    assert hits.label.tolist() == [classes.MANMADE] and hits.distance[0] == pytest.approx(7.5, abs=1e-5)


def test_blocked_agrees_with_cast() -> None:
    rng = np.random.default_rng(0)
    things = [box(rng.uniform(1, 3, 3), rng.uniform(-6, 6, 3), GREY).tagged(0) for _ in range(12)]
    scene = RayScene(*(Layer(thing) for thing in things))
    ways = rng.normal(size=(500, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    origins = rng.uniform(-2, 2, (500, 3))
    met = np.isfinite(scene.cast(origins, ways).distance)
    assert 50 < met.sum() < 450
    np.testing.assert_array_equal(scene.blocked(origins, ways), met)


def test_distances_agree_with_the_slab_test() -> None:
    rng = np.random.default_rng(1)
    low, high = np.array([-1.0, -0.5, -2.0]), np.array([0.5, 1.5, 0.3])
    scene = RayScene(Layer(box(high - low, (low + high) / 2, GREY).tagged(0)))
    origins = rng.normal(size=(2000, 3)) * 4
    origins = origins[((origins < low) | (origins > high)).any(axis=1)]
    ways = (low + high) / 2 + rng.normal(size=origins.shape) - origins
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    a, b = (low - origins) / ways, (high - origins) / ways
    enter, leave = np.minimum(a, b).max(axis=1), np.maximum(a, b).min(axis=1)
    expected = np.where((enter <= leave) & (enter >= 0), enter, np.inf)
    clear = np.abs(leave - enter) > 1e-3  # rays that graze an edge may go either way
    found = scene.cast(origins, ways).distance
    np.testing.assert_allclose(found[clear], expected[clear], rtol=1e-4)
    assert np.isfinite(expected).sum() > 300
