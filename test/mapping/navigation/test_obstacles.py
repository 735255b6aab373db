"""Which points pass the obstacle rule, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ov3d_perception.mapping.navigation.obstacles import ObstacleRule, named, obstacles, unknown_words

NAMES = ("car", "driveable_surface", "grass")
NONE = 65535


def passed(rule: ObstacleRule, points: list[tuple[float, int, float]], names: tuple[str, ...] = NAMES) -> list[bool]:
    """What becomes of points of (height above a road at -1.7 m, label, probability)."""
    x, y = np.meshgrid(np.arange(-5.0, 5.0, 0.2), np.arange(-5.0, 5.0, 0.2))
    road = np.stack([x.ravel(), y.ravel(), np.full(x.size, -1.7)], 1)
    things = np.array([[0.05, 0.05, height - 1.7] for height, _, _ in points])
    label = np.array([1] * len(road) + [c for _, c, _ in points], np.uint16)
    probability = np.array([0.9] * len(road) + [p for _, _, p in points], np.float32)
    xyz = np.concatenate([road, things]).astype(np.float32)
    result = obstacles(rule, names, xyz, label, probability)
    assert not result[: len(road)].any()
    return result[len(road) :].tolist()


def test_height_decides_and_ground_by_name_must_be_higher() -> None:
    points = [(0.05, 0, 0.9), (0.15, 0, 0.9), (0.15, 1, 0.9), (0.15, 2, 0.9), (0.25, 2, 0.9), (0.15, NONE, 0.0)]
    assert passed(ObstacleRule(), points) == [False, True, False, False, True, True]
    assert passed(ObstacleRule(), [(1.95, 0, 0.9), (2.05, 0, 0.9)]) == [True, False]
    assert passed(ObstacleRule(min_height=0.5), [(0.45, 0, 0.9), (0.55, 0, 0.9)]) == [False, True]


def test_keep_and_drop_by_word_and_by_group() -> None:
    points = [(1.0, 0, 0.9), (1.0, 1, 0.9), (1.0, 2, 0.9), (1.0, NONE, 0.0)]
    assert passed(ObstacleRule(keep=["cars"]), points) == [True, False, False, False]
    assert passed(ObstacleRule(drop=["driveable surface"]), points) == [True, False, True, True]
    assert passed(ObstacleRule(drop=["ground"]), points) == [True, False, False, True]
    assert passed(ObstacleRule(keep=["ground"], drop=["grass"]), points) == [False, True, False, False]


def test_words_of_little_probability_are_no_class() -> None:
    doubtful = [(0.15, 1, 0.3), (1.0, 0, 0.3)]
    assert passed(ObstacleRule(min_probability=0.5), doubtful) == [True, True]
    assert passed(ObstacleRule(min_probability=0.5, keep=["car"]), doubtful) == [False, False]


def test_words_without_ground_leave_it_to_the_shape() -> None:
    assert passed(ObstacleRule(), [(0.15, 0, 0.9), (0.05, 0, 0.9)], ("car", "lorry", "tree")) == [True, False]


def test_points_that_are_not_finite_do_not_pass() -> None:
    xyz = np.array([[np.nan, 0, 0], [0, np.inf, 0], [0, 0, 0], [0, 0, 1]], np.float32)
    result = obstacles(ObstacleRule(), NAMES, xyz, np.zeros(4, np.uint16), np.ones(4, np.float32))
    assert result.tolist() == [False, False, False, False]  # labelled car, all of them: there is no ground to stand on


@pytest.mark.parametrize("label", [-1, -2, -9, 3, 2**31 - 1])
def test_a_label_that_names_no_class_is_none(label: int) -> None:
    """As other programs write it: -1, or numbers beyond the names."""
    xyz, labels = np.array([[0, 0, 0], [0.1, 0, 1]], np.float32), np.array([1, label], np.int32)
    for rule, expected in ((ObstacleRule(), True), (ObstacleRule(keep=["grass", "car"]), False)):
        assert obstacles(rule, NAMES, xyz, labels, np.ones(2, np.float32)).tolist() == [False, expected]


@pytest.mark.parametrize("name", ["driveable_surface", "road", "other_flat", "other-ground", "sidewalks", "Grass"])
def test_the_group_holds_what_label_sets_call_ground(name: str) -> None:
    assert named(["ground"], [name, "car", "wall", "tree"]).tolist() == [True, False, False, False]


def test_unknown_words_are_those_that_name_no_class() -> None:
    assert unknown_words(["car", "ground", "unicorn", "Driveable surface"], NAMES) == ["unicorn"]
    assert unknown_words(["ground"], ["car"]) == []
