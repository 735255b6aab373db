"""Intervals of a change of mean IoU: exact cases, their width against theory, and what is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from ov3d_perception.evaluation.metrics import Confusion, mean_iou, scores_of
from ov3d_perception.evaluation.significance import DRIVES, Change, Paired, change
from ov3d_perception.types import UNLABELLED

NAMES = ("car", "road", "tree")


def paired(right: list[tuple[float, float]], drives: int = 1, points: int = 200, seed: int = 0) -> Paired:
    """Frames in which each network is right at about these shares of the points; else it says the next class."""
    rng, found = np.random.default_rng(seed), Paired(NAMES)
    for number, shares in enumerate(right):
        truth = rng.integers(0, 3, points).astype(np.int32)
        said = [np.where(rng.random(points) < share, truth, (truth + 1) % 3).astype(np.int32) for share in shares]
        found.add(str(number % drives), truth, *said)
    return found


def test_many_matrices_score_as_each_alone() -> None:
    matrices = np.random.default_rng(0).integers(0, 9, (4, 2, 3, 4))
    matrices[0, 0, 1] = 0  # a class that is not there
    expected = [[scores_of(matrix, NAMES).miou for matrix in pair] for pair in matrices]
    np.testing.assert_allclose(mean_iou(matrices), expected)
    assert mean_iou(np.zeros((3, 4), np.int64)) == 0


def test_frames_that_are_all_alike_leave_no_doubt() -> None:
    """Cars, cars, roads, roads. Before: 2 of 4 right, IoU 1/3 and 1/3. After: 3 of 4 right, IoU 1/2 and 2/3."""
    found = Paired(NAMES)
    for _ in range(3):
        found.add("", np.int32([0, 0, 1, 1]), np.int32([0, 1, 1, 0]), np.int32([0, 1, 1, 1]))
    after = (1 / 2 + 2 / 3) / 2
    result = change([found])
    assert result is not None and result.units == 3
    np.testing.assert_allclose(
        [result.before, result.after, result.low, result.high], [1 / 3, after, *2 * [after - 1 / 3]]
    )


def test_the_width_is_that_of_the_mean_of_independent_frames() -> None:
    """One class, so that mean IoU is the share of right points; 50 frames gain 0 or 0.2 each: standard error 0.014."""
    found, rng = Paired(("car",)), np.random.default_rng(1)
    truth = np.zeros(10, np.int32)
    gains = rng.integers(0, 2, 50)
    for gain in gains:
        before = np.where(np.arange(10) < 5, 0, UNLABELLED).astype(np.int32)
        found.add("", truth, before, np.where(np.arange(10) < 5 + 2 * gain, 0, UNLABELLED).astype(np.int32))
    result = change([found])
    assert result is not None
    error = 0.2 * gains.std() / np.sqrt(50)
    assert result.gain == pytest.approx(0.2 * gains.mean())
    np.testing.assert_allclose([result.low, result.high], result.gain + 1.96 * error * np.array([-1, 1]), atol=0.004)


def test_whole_drives_are_drawn_where_there_are_enough() -> None:
    assert len(paired([(0.5, 0.5)] * 40, drives=DRIVES).units()) == DRIVES
    assert len(paired([(0.5, 0.5)] * 40, drives=DRIVES - 1).units()) == 40
    many = paired([(0.5, 0.5)] * 40, drives=DRIVES)
    np.testing.assert_array_equal(many.units().sum(0), paired([(0.5, 0.5)] * 40).units().sum(0))


def test_places_count_alike_whatever_their_size() -> None:
    """A small place that loses much is not hidden by a large one that loses nothing."""
    large, small = paired([(0.8, 0.8)] * 90, points=1000), paired([(0.8, 0.5)] * 10, points=1000)
    alone, both = change([small]), change([large, small])
    assert alone is not None and both is not None
    assert both.gain == pytest.approx(alone.gain / 2, abs=0.01) and both.high < -0.05


def test_nothing_known_is_no_change() -> None:
    found = Paired(NAMES)
    found.add("", np.full(5, UNLABELLED, np.int32), np.zeros(5, np.int32), np.zeros(5, np.int32))
    assert change([found]) is None and change([]) is None


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Right at 0.80 and 0.75, the rest spread evenly: IoU p / (2 - p). With 15 frames a little less often."""
    rng, inside = np.random.default_rng(0), 0
    for seed in range(100):
        shares = np.clip(rng.normal((0.8, 0.75), 0.05, (15, 2)), 0, 1)
        result = change([paired([(float(a), float(b)) for a, b in shares], points=60, seed=seed)])
        assert isinstance(result, Change)
        inside += result.low <= 0.75 / 1.25 - 0.8 / 1.2 <= result.high
    assert 0.86 <= inside / 100 <= 0.99


def test_a_matrix_is_that_of_the_scores() -> None:
    truth, said = np.int32([0, 1, 2, UNLABELLED]), np.int32([0, 0, UNLABELLED, 1])
    found, confusion = Paired(NAMES), Confusion(NAMES)
    found.add("", truth, said, truth)
    confusion.update(said, truth)
    np.testing.assert_array_equal(found.units()[0, 0], confusion.matrix())
