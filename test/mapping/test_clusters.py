"""Groups against brute force, boxes against rectangles that were drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ov3d_perception.geometry.boxes import points_in_box
from ov3d_perception.geometry.voxels import pack, voxel_centres
from ov3d_perception.mapping.clusters import box_around, boxes_around, cluster, members_of


def grid(length: float, width: float, height: float, step: float = 0.1) -> np.ndarray:
    axes = [np.arange(-edge / 2 + step / 2, edge / 2, step) for edge in (length, width, height)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3).astype(np.float32)


def test_two_cars_a_metre_apart_are_two() -> None:
    car = grid(4.0, 1.8, 1.4, 0.2)
    group = cluster(np.concatenate([car, car + np.float32([0, 2.8, 0])]), gap=0.4, vertical_gap=1.0)
    assert set(group[: len(car)]) | set(group[len(car) :]) == {0, 1}
    assert len(set(group[: len(car)])) == len(set(group[len(car) :])) == 1


def test_the_beams_of_a_lidar_do_not_cut_a_thing_in_slices() -> None:
    rings = np.concatenate([grid(4.0, 0.2, 0.1) + np.float32([0, 0, z]) for z in (0.0, 0.7, 1.4)])
    assert set(cluster(rings, gap=0.3, vertical_gap=0.9)) == {0}
    assert len(set(cluster(rings, gap=0.3, vertical_gap=0.3))) == 3


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60))
def test_agrees_with_brute_force(seed: int, count: int) -> None:
    """Cells that touch belong together; the groups are the classes of that relation."""
    centres = np.random.default_rng(seed).uniform(-3, 3, (count, 3)).astype(np.float32)
    cells = np.floor(centres.astype(np.float64) / [0.5, 0.5, 1.0])
    touching = (np.abs(cells[:, None] - cells[None]) <= 1).all(2)
    expected = np.arange(count)
    for _ in range(count):
        expected = np.array([expected[row].min() for row in touching], dtype=int) if count else expected
    group = cluster(centres, 0.5, 1.0)
    np.testing.assert_array_equal(group[:, None] == group[None], expected[:, None] == expected[None])


@pytest.mark.parametrize("degrees", [-80, -45, -10, 0, 17, 45, 73, 90, 135])
def test_box_of_a_turned_car(degrees: float) -> None:
    yaw = np.radians(degrees)
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    place = np.array([1234.0, -567.0, 3.0])
    box = box_around((grid(4.4, 1.8, 1.5) @ turn.T + place).astype(np.float32), voxel_size=0.1)
    np.testing.assert_allclose(box.centre, place, atol=0.02)
    np.testing.assert_allclose(box.size, [4.4, 1.8, 1.5], atol=0.02)
    assert -np.pi / 2 < box.yaw <= np.pi / 2 + 1e-9
    assert abs(np.sin(box.yaw - yaw)) < 0.01, "the same line, whichever way it points"


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_box_holds_every_voxel(seed: int, count: int) -> None:
    centres = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32) * [3, 1, 1]
    box = box_around(centres.astype(np.float32), voxel_size=0.1)
    assert points_in_box(centres, box).all()
    assert box.size[0] >= box.size[1] > 0 and box.size[2] > 0


def test_boxes_of_groups_are_those_of_each_alone() -> None:
    rng = np.random.default_rng(0)
    parts = [np.unique(pack(rng.integers(-count, count, (count, 3)) - 500), axis=0) for count in (1, 2, 30, 400)]
    sizes = [len(part) for part in parts]
    together = boxes_around(np.concatenate(parts), np.cumsum(sizes) - sizes, voxel_size=0.2)
    for part, box in zip(parts, together, strict=True):
        centres = voxel_centres(part, 0.2)
        alone = box_around(centres.astype(np.float32), 0.2)
        np.testing.assert_allclose(box.size[:2].prod(), alone.size[:2].prod(), rtol=1e-3)
        np.testing.assert_allclose([box.centre[2], box.size[2]], [alone.centre[2], alone.size[2]], atol=1e-4)
        assert points_in_box(centres, box).all()


@settings(max_examples=40)
@given(st.lists(st.integers(0, 200_000), max_size=60), st.lists(st.booleans(), min_size=3, max_size=3))
def test_members_group_by_group(numbers: list[int], chosen: list[bool]) -> None:
    """Also where group numbers need more than 16 bits; in each group, the order stays."""
    group = np.array(numbers, np.int64) % 3 * 70_000
    wanted = np.zeros(140_001, bool)
    wanted[[0, 70_000, 140_000]] = chosen
    rows, first = members_of(group, wanted)
    expected = [np.flatnonzero(group == number) for number in np.unique(group) if wanted[number]]
    assert [part.tolist() for part in np.split(rows, first[1:]) if len(part)] == [part.tolist() for part in expected]


def test_cells_at_the_edges_do_not_wrap() -> None:
    """The end of one column or row is not beside the start of the next."""
    corners = np.float32([[0, 0, 0], [0, 0, 9], [0, 9, 0], [0, 9, 9], [9, 0, 0], [9, 0, 9], [9, 9, 0], [1, 0, 9]]) + 0.5
    group = cluster(corners, 1.0, 1.0)
    assert group[1] == group[7] and len(set(group.tolist())) == 7


def test_nothing() -> None:
    assert cluster(np.empty((0, 3), np.float32), 0.3, 0.9).shape == (0,)
