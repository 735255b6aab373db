"""Ground and costs of worlds of a few voxels, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ov3d_perception.errors import Ov3dError
from ov3d_perception.mapping.navigation.costmap import (
    FREE,
    OCCUPIED,
    UNKNOWN,
    Body,
    GroundGrid,
    Layout,
    cost_mask,
    ground_grid,
    parse_costs,
    refined,
    words_of,
)

TIGHT = Body(step=0.3, height=2.0, gap=0.0)


def block(corner: tuple[float, float, float], shape: tuple[int, int, int], edge: float = 0.2) -> np.ndarray:
    """Centres of a block of voxels."""
    return ((np.indices(shape).reshape(3, -1).T + 0.5) * edge + corner).astype(np.float32)


def grid_of(*blocks: np.ndarray, body: Body = TIGHT, resolution: float = 0.2) -> GroundGrid:
    return ground_grid(np.concatenate(blocks), resolution, 0.2, body)


def at(grid: GroundGrid, x: float, y: float) -> int:
    """State of the cell at a place."""
    return int(grid.state.reshape(-1)[grid.layout.cells(np.array([[x, y]]))[0]])


def test_layout_is_aligned_to_the_frame_and_counts_from_the_lower_left() -> None:
    layout = Layout.around(np.array([[-0.31, 0.5], [0.71, 1.01]]), 0.5)
    assert (layout.origin, layout.width, layout.height) == ((-0.5, 0.5), 3, 2)
    places = np.array([[-0.3, 0.6], [0.6, 0.6], [-0.3, 1.2], [5.0, 0.6], [-0.6, 0.6], [0.0, 0.4]])
    assert layout.cells(places).tolist() == [0, 2, 3, -1, -1, -1]
    np.testing.assert_allclose(layout.centres(np.array([0, 5])), [[-0.25, 0.75], [0.75, 1.25]])


def test_a_grid_too_large_is_refused_with_the_parameter_to_change() -> None:
    with pytest.raises(Ov3dError, match="mask_resolution"):
        Layout.around(np.array([[0.0, 0.0], [10_000.0, 10_000.0]]), 0.2)


def test_a_kerb_is_driven_over_a_box_is_not_and_a_crown_is_driven_under() -> None:
    road = block((0, 0, 0), (40, 40, 1))
    kerb, box = block((1, 1, 0.2), (5, 5, 1)), block((4, 4, 0.2), (3, 3, 2))
    crown, branch = block((6, 1, 3), (5, 5, 5)), block((6, 6, 1.8), (2, 2, 1))
    grid = grid_of(road, kerb, box, crown, branch)
    assert (grid.layout.shape, grid.layout.origin) == ((40, 40), (0.0, 0.0))
    assert at(grid, 0.1, 0.1) == at(grid, 1.5, 1.5) == at(grid, 6.5, 1.5) == FREE
    assert at(grid, 4.1, 4.1) == at(grid, 6.1, 6.1) == OCCUPIED
    assert (grid.state == OCCUPIED).sum() == 9 + 4
    assert (grid.state == UNKNOWN).sum() == 0


def test_what_hides_its_own_ground_stands_on_the_ground_around_it() -> None:
    """A car of which only the roof was seen; the lowest voxel of its cells is no ground."""
    road = block((0, 0, 0), (60, 60, 1))
    under = (road[:, 0] > 4) & (road[:, 0] < 8) & (road[:, 1] > 5) & (road[:, 1] < 7)
    grid = grid_of(road[~under], block((4, 5, 1.4), (20, 10, 1)))
    assert at(grid, 6, 6) == OCCUPIED
    assert (grid.state == OCCUPIED).sum() == 200
    assert grid.ground[30, 30] == pytest.approx(0.1)


def test_a_slope_is_ground() -> None:
    """One in ten, 12 m long: the ends differ by 1.2 m."""
    road = block((0, 0, 0), (60, 30, 1))
    road[:, 2] += np.floor(road[:, 0] * 0.1 / 0.2) * 0.2
    grid = grid_of(road)
    assert (grid.state == FREE).all()


def test_a_bank_and_the_edge_of_a_platform_are_no_way() -> None:
    """Wider than what the opening takes for things: a platform 1 m high, whose face was not measured, and a bank."""
    road, platform = block((0, 0, 0), (30, 40, 1)), block((6, 0, 1), (30, 40, 1))
    grid = grid_of(road, platform)
    assert at(grid, 3, 4) == at(grid, 9, 4) == FREE
    assert at(grid, 5.9, 4) == at(grid, 6.1, 4) == OCCUPIED
    bank = block((0, 0, 0), (60, 30, 1))
    bank[:, 2] += np.floor(bank[:, 0] / 0.2) * 0.2
    assert (grid_of(bank).state[:, 5:-15] == OCCUPIED).all()


def test_only_a_crown_says_nothing_about_the_ground() -> None:
    grid = grid_of(block((0, 0, 0), (10, 10, 1)), block((2, 0, 3), (10, 10, 3)))
    assert at(grid, 1.9, 1.0) == FREE
    assert at(grid, 2.9, 1.0) == UNKNOWN


@pytest.mark.parametrize(("gap", "state"), [(0.0, UNKNOWN), (0.4, FREE), (0.2, UNKNOWN)])
def test_gaps_between_a_lidars_rings_are_ground_up_to_a_width(gap: float, state: int) -> None:
    rings = [block((x, 0, 0), (1, 20, 1)) for x in (0.0, 0.6, 1.2)]  # two empty cells between
    grid = grid_of(*rings, body=Body(gap=gap))
    assert grid.layout.shape == (20, 7)
    assert at(grid, 0.3, 2.0) == state
    assert at(grid, 0.1, 2.0) == FREE


def test_closing_gaps_never_frees_an_obstacle() -> None:
    rings = [block((x, 0, 0), (1, 20, 1)) for x in (0.0, 0.4)]
    grid = grid_of(*rings, block((0.2, 2, 0.6), (1, 1, 1)), body=Body(gap=0.6))
    assert at(grid, 0.3, 2.1) == OCCUPIED
    assert at(grid, 0.3, 1.1) == FREE


def test_cells_are_no_smaller_than_voxels() -> None:
    assert grid_of(block((0, 0, 0), (4, 4, 1)), resolution=0.05).layout.resolution == 0.2


def test_mask_by_hand() -> None:
    """A road with grass on the left half, a puddle in it, a wall, and nothing known beyond."""
    road, wall = block((0, 0, 0), (4, 2, 1)), block((1.0, 0, 0.4), (1, 1, 3))
    grass, puddle = road[road[:, 0] < 0.4], road[(road[:, 0] < 0.2) & (road[:, 1] < 0.2)]
    grid = grid_of(road, wall)
    mask = cost_mask(grid, [(puddle, 100), (grass, 60)])
    assert mask.dtype == np.int8
    assert mask.tolist() == [[100, 60, 0, 0, -1, -1], [60, 60, 0, 0, -1, -1]]
    assert grid.state.tolist() == [[0, 0, 0, 0, -1, 100], [0, 0, 0, 0, -1, -1]]
    assert cost_mask(grid, [(wall, 30)])[0, 5] == 30, "cost 0 is for free ground alone, other costs for all"
    assert cost_mask(grid, []).max() == 0


def test_gaps_between_cells_of_one_cost_cost_the_same_where_the_ground_is_free() -> None:
    road, post = block((0, 0, 0), (7, 1, 1)), block((1.0, 0, 0.4), (1, 1, 3))
    grid = grid_of(road, post, body=Body(gap=0.2))
    grass = road[[0, 2, 4, 6]]
    assert cost_mask(grid, [(grass, 60)]).tolist() == [[60, 60, 60, 60, 60, -1, 60]]
    assert cost_mask(grid, [(road[[0]], 60), (road[[2]], 50)]).tolist() == [[60, 0, 50, 0, 0, -1, 0]]
    assert cost_mask(grid, [(road[[0, 3]], 60)]).tolist() == [[60, 0, 0, 60, 0, -1, 0]], "wider than the gap"


def test_the_highest_cost_wins_whatever_the_order() -> None:
    road = block((0, 0, 0), (3, 3, 1))
    grid = grid_of(road)
    pairs = [(road, 20), (road[:3], 90), (road[:6], 50)]
    expected = cost_mask(grid, pairs)
    assert sorted(expected.reshape(-1).tolist()) == [20] * 3 + [50] * 3 + [90] * 3
    for order in ([2, 1, 0], [1, 2, 0]):
        np.testing.assert_array_equal(cost_mask(grid, [pairs[i] for i in order]), expected)


def test_what_hangs_above_the_robot_and_what_lies_outside_costs_nothing() -> None:
    road, crown = block((0, 0, 0), (10, 10, 1)), block((0, 0, 3), (10, 10, 3))
    grid = grid_of(road, crown)
    assert cost_mask(grid, [(crown, 100), (block((50, 50, 0), (3, 3, 1)), 100)]).max() == 0
    trunk = block((1, 1, 0.2), (1, 1, 15))
    assert cost_mask(grid, [(trunk, 80)]).max() == 80


def test_costs_are_read_and_what_is_wrong_is_told() -> None:
    costs, faults = parse_costs(["grass: 60", "wet road:100", "grass: 20", " puddle : 0 "])
    assert (costs, faults) == ({"grass": 60, "wet road": 100, "puddle": 0}, [])
    bad = ["grass", "grass: much", ": 5", "grass: 101", "grass: -1", "grass: 1.5"]
    costs, faults = parse_costs([*bad, "tree: 7"])
    assert costs == {"tree": 7}
    assert len(faults) == len(bad)
    assert all(line in fault and "word: cost" in fault for line, fault in zip(bad, faults, strict=True))


def test_a_class_stands_for_its_words() -> None:
    classes = {"vegetation": ["tree", "bush"], "driveable_surface": ["road"]}
    costs = {"vegetation": 50, "bush": 80, "driveable surface": 1, "puddle": 100}
    words = words_of(costs, classes)
    assert words == {"tree": 50, "bush": 80, "road": 1, "puddle": 100}
    assert list(words.values()) == [1, 50, 80, 100], "the dearest is asked for last"


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(-30, 30), st.integers(-30, 30), st.integers(-5, 20)), min_size=1, max_size=120),
    st.sampled_from([0.2, 0.3, 0.5]),
    st.floats(0.0, 1.0),
)
def test_what_is_in_a_cell_decides_its_state(voxels: list[tuple[int, int, int]], resolution: float, gap: float) -> None:
    """Brute force over the voxels of each cell, with the grid's own idea of where the ground is."""
    centres = ((np.array(sorted(set(voxels))) + 0.5) * 0.2).astype(np.float32)
    grid = ground_grid(centres, resolution, 0.2, Body(gap=gap))
    cells = grid.layout.cells(centres)
    assert (cells >= 0).all()
    for cell in np.unique(cells):
        inside = centres[cells == cell]
        ground = grid.ground.reshape(-1)[cell]
        assert ground <= inside[:, 2].min() + 1e-6, "the ground is never above the lowest voxel"
        hit = ((inside[:, 2] - ground > 0.3) & (inside[:, 2] - ground <= 2.0)).any()
        seen = (inside[:, 2] - ground <= 0.3).any()
        state = grid.state.reshape(-1)[cell]
        assert state == OCCUPIED if hit else state in ((FREE, OCCUPIED) if seen else (UNKNOWN, FREE))
    empty = np.setdiff1d(np.arange(grid.state.size), cells)
    assert (grid.state.reshape(-1)[empty] != OCCUPIED).all()


def test_a_refined_mask_says_the_same_in_smaller_cells() -> None:
    layout = Layout((-0.4, 0.2), 0.2, 3, 2)
    values = np.array([[0, -1, 100], [30, 0, 0]], np.int8)
    fine, small = refined(layout, values, 0.05)
    assert (fine.origin, fine.width, fine.height) == ((-0.4, 0.2), 12, 8)
    assert fine.resolution == pytest.approx(0.05)
    np.testing.assert_array_equal(small, np.kron(values, np.ones((4, 4), np.int8)))
    assert refined(layout, values, 0.0)[0] == layout and refined(layout, values, 0.5)[0] == layout
    assert refined(layout, values, 0.066)[0].resolution == pytest.approx(0.2 / 3)


def test_a_mask_is_padded_with_unknown_up_to_a_size() -> None:
    layout = Layout((-0.4, 0.2), 0.2, 3, 2)
    padded, values = refined(layout, np.zeros((2, 3), np.int8), 0.1, (1.0, 0.3))
    assert (padded.origin, padded.width, padded.height) == ((-0.4, 0.2), 10, 4)
    assert (values[:, :6] == 0).all() and (values[:, 6:] == UNKNOWN).all()
    assert refined(layout, np.zeros((2, 3), np.int8), 0.02, (400.0, 400.0))[0].resolution == pytest.approx(0.1)
    with pytest.raises(Ov3dError, match="mask_size"):
        refined(layout, np.zeros((2, 3), np.int8), 0.05, (1001.0, 1001.0))
