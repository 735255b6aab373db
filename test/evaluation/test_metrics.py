"""Scores against hand-computed values."""

import numpy as np
import pytest

from ov3d_perception.evaluation.metrics import Confusion
from ov3d_perception.types import UNLABELLED


def test_hand_computed_scores():
    confusion = Confusion(["a", "b", "c"])
    truth = np.array([0, 0, 0, 1, 1, UNLABELLED])
    guess = np.array([0, 0, 1, 1, 2, 0])
    confusion.update(guess, truth)
    scores = confusion.scores()
    assert scores.iou == pytest.approx({"a": 2 / 3, "b": 1 / 3})
    assert scores.miou == pytest.approx(0.5)
    assert scores.macc == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores.accuracy == pytest.approx(3 / 5)
    assert scores.points == 5
    assert scores.share == pytest.approx({"a": 0.6, "b": 0.4})


def test_class_without_ground_truth_is_absent_and_unlabelled_guess_is_wrong():
    confusion = Confusion(["a", "b"])
    confusion.update(np.array([0, UNLABELLED]), np.array([0, 0]))
    assert confusion.scores().iou == {"a": 0.5}
    np.testing.assert_array_equal(confusion.matrix(), [[1, 0, 1], [0, 0, 0]])


def test_updates_add_up():
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 4, (2, 300))
    whole, parts = Confusion("abcd"), Confusion("abcd")
    whole.update(guess, truth)
    for part in range(3):
        parts.update(guess[part::3], truth[part::3])
    assert parts.scores() == whole.scores()
    assert whole.matrix()[:, :4].sum() == 300


def test_nothing_scored_is_zero():
    confusion = Confusion(["a"])
    confusion.update(np.array([0]), np.array([UNLABELLED]))
    assert confusion.scores().points == 0
