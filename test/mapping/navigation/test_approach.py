"""Poses in front of things, on grids drawn by hand and on random ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ov3d_perception.mapping.navigation.approach import Approach, NoApproach, Stance, find_approach, passable_cells
from ov3d_perception.mapping.navigation.costmap import FREE, OCCUPIED, UNKNOWN, Body, GroundGrid, Layout

STANCE = Stance(stand_off=1.0, slack=0.5, radius=0.3)
SIGNS = {".": FREE, "#": OCCUPIED, "?": UNKNOWN}


def grid_of(state: np.ndarray, resolution: float = 0.2, origin: tuple[float, float] = (0.0, 0.0)) -> GroundGrid:
    layout = Layout(origin, resolution, state.shape[1], state.shape[0])
    return GroundGrid(layout, state.astype(np.int8), np.full(state.shape, 0.25, np.float32), Body())


def drawn(*rows: str, resolution: float = 1.0) -> GroundGrid:
    """The topmost row is the one of the largest y."""
    return grid_of(np.array([[SIGNS[sign] for sign in row] for row in reversed(rows)]), resolution)


def field(size: int = 40) -> np.ndarray:
    return np.full((size, size), FREE)


THING = np.array([[4.1, 4.1, 0.9]], np.float32)


def test_in_front_of_a_thing_facing_it_on_the_robots_side() -> None:
    state = field()
    state[20, 20] = OCCUPIED  # where the thing is
    found = find_approach(grid_of(state), THING, STANCE, np.array([1.0, 4.1, 0.0]))
    assert isinstance(found, Approach)
    np.testing.assert_allclose(found.position, [2.7, 4.1, 0.25], atol=1e-6)  # 1.4 m; the cell before is 1.6 m away
    assert found.yaw == pytest.approx(0.0, abs=1e-6)
    assert found.distance == pytest.approx(1.4, abs=1e-6)


@pytest.mark.parametrize(
    ("robot", "yaw"),
    [((7.0, 4.1), np.pi), ((4.1, 1.0), np.pi / 2), ((4.1, 7.0), -np.pi / 2), ((7.0, 7.0), -3 * np.pi / 4)],
)
def test_it_faces_the_thing_from_every_side(robot: tuple[float, float], yaw: float) -> None:
    found = find_approach(grid_of(field()), THING, STANCE, np.array(robot))
    assert isinstance(found, Approach)
    assert np.cos(found.yaw - yaw) == pytest.approx(1.0, abs=1e-3)


def test_without_a_robot_it_is_the_place_nearest_to_the_stand_off() -> None:
    found = find_approach(grid_of(field()), THING, STANCE)
    assert isinstance(found, Approach)
    assert found.distance == pytest.approx(1.0, abs=1e-6)


def test_a_long_wall_is_faced_where_the_robot_is_near() -> None:
    wall = np.stack([np.arange(0.1, 8, 0.2), np.full(40, 6.1)], 1).astype(np.float32)
    found = find_approach(grid_of(field()), wall, STANCE, np.array([1.1, 1.1]))
    assert isinstance(found, Approach)
    np.testing.assert_allclose(found.position[:2], [1.1, 4.7], atol=1e-6)
    assert found.yaw == pytest.approx(np.pi / 2, abs=1e-6)


def test_a_robot_needs_room_for_its_radius() -> None:
    grid = drawn("?????", "?...?", "?...?", "?...?", "?????")
    assert np.argwhere(passable_cells(grid, 0.2)).tolist() == [[y, x] for y in (1, 2, 3) for x in (1, 2, 3)]
    assert np.argwhere(passable_cells(grid, 0.5)).tolist() == [[2, 2]]
    assert not passable_cells(grid, 1.5).any()


def test_outside_the_grid_is_no_room() -> None:
    """Three by three cells of 1 m, all free: the middle's centre is 1.5 m from the border."""
    grid = drawn("...", "...", "...")
    assert np.argwhere(passable_cells(grid, 1.2)).tolist() == [[1, 1]]
    assert not passable_cells(grid, 1.6).any()


def test_behind_a_wall_is_not_reachable_and_that_is_said() -> None:
    state = field()
    state[:, 10:12] = OCCUPIED
    there = find_approach(grid_of(state), THING, STANCE, np.array([1.0, 4.1]))
    assert isinstance(there, NoApproach)
    assert "reach" in there.reason and "(1.0, 4.1)" in there.reason
    state[0:10, 10:12] = FREE  # a gate of 2 m
    assert isinstance(find_approach(grid_of(state), THING, STANCE, np.array([1.0, 4.1])), Approach)


def test_a_robot_on_unknown_ground_may_go_anywhere() -> None:
    """Its sensor does not see the ground below itself: nothing is said about what it can reach."""
    state = field()
    state[:, 10:12] = OCCUPIED
    state[:, :10] = UNKNOWN
    found = find_approach(grid_of(state), THING, STANCE, np.array([1.0, 4.1]))
    assert isinstance(found, Approach)
    assert isinstance(find_approach(grid_of(state), THING, STANCE, np.array([-50.0, 4.1])), Approach)


def test_a_robot_beside_a_wall_starts_from_where_it_fits() -> None:
    state = field()
    state[:, 0] = OCCUPIED
    found = find_approach(grid_of(state), THING, STANCE, np.array([0.3, 4.1]))
    assert isinstance(found, Approach)


@pytest.mark.parametrize(("value", "words"), [(UNKNOWN, "unknown"), (OCCUPIED, "occupied")])
def test_no_place_says_what_is_there(value: int, words: str) -> None:
    found = find_approach(grid_of(np.full((40, 40), value)), THING, STANCE)
    assert isinstance(found, NoApproach)
    assert "No ground is known to be free 1.0 to 1.5 m from it" in found.reason and words in found.reason


def test_too_narrow_says_so() -> None:
    state = np.full((40, 40), UNKNOWN)
    state[20, :] = FREE
    found = find_approach(grid_of(state), THING, STANCE)
    assert isinstance(found, NoApproach)
    assert "too narrow" in found.reason and "0.30 m" in found.reason


@settings(max_examples=150)
@given(st.data())
def test_a_pose_is_never_in_or_near_an_occupied_or_unknown_cell(data: st.DataObject) -> None:
    """On random grids, for any robot: the disc of its radius lies in free cells, by brute force over the corners."""
    seed = data.draw(st.integers(0, 2**32 - 1))
    share = data.draw(st.sampled_from([0.0, 0.02, 0.1]))
    resolution = data.draw(st.sampled_from([0.1, 0.2, 0.5]))
    stance = Stance(data.draw(st.floats(0.3, 3.0)), data.draw(st.floats(0.1, 2.0)), data.draw(st.floats(0.05, 0.8)))
    generator = np.random.default_rng(seed)
    state = generator.choice([FREE, OCCUPIED, UNKNOWN], (30, 36), p=[1 - share, share / 2, share / 2])
    grid = grid_of(state, resolution, (-3.0, 2.0))
    thing = generator.uniform((-3, 2), np.array([36, 30]) * resolution + (-3, 2), (3, 2)).astype(np.float32)
    robot = data.draw(st.one_of(st.none(), st.just(generator.uniform(-3, 5, 2))))
    found = find_approach(grid, thing, stance, robot)
    if isinstance(found, NoApproach):
        assert found.reason
        return
    x, y = found.position[:2]
    assert grid.state.reshape(-1)[grid.layout.cells(np.array([[x, y]]))[0]] == FREE
    rows, columns = np.nonzero(state != FREE)
    low = np.stack([columns, rows], 1) * resolution + (-3.0, 2.0)
    beyond = np.maximum(np.maximum(low - [x, y], [x, y] - (low + resolution)), 0)
    if len(beyond):
        assert np.linalg.norm(beyond, axis=1).min() >= stance.radius - 1e-6
    border = min(x + 3.0, y - 2.0, 36 * resolution - 3.0 - x, 30 * resolution + 2.0 - y)
    assert border >= stance.radius - 1e-9
    away = np.linalg.norm(thing - [x, y], axis=1)
    assert stance.stand_off - 1e-5 <= away.min() <= stance.stand_off + stance.slack + 1e-5
    assert found.distance == pytest.approx(away.min(), abs=1e-5)
    towards = thing[away.argmin()] - [x, y]
    assert np.cos(found.yaw - np.arctan2(towards[1], towards[0])) == pytest.approx(1.0, abs=1e-4)
