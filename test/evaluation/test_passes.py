"""Agreement of a network with itself, and the honesty of its probabilities: hand-computed values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ov3d_perception.evaluation.passes import Calibration, Passes
from ov3d_perception.types import UNLABELLED

HERE, THERE = np.float32([0.1, 0.1, 0.1]), np.float32([5.0, 5.0, 0.1])


def test_pairs_of_scans_that_agree() -> None:
    """One voxel, labels 0 0 1: of its three pairs one agrees. Another, labels 2 2: one pair, which agrees. 2 of 4."""
    passes = Passes(3)
    for label in (0, 0, 1):
        passes.add(HERE[None], np.int32([label]))
    for _ in range(2):
        passes.add(THERE[None], np.int32([2]))
    assert passes.agreement() == pytest.approx(2 / 4)


def test_a_voxel_has_the_label_of_most_of_its_points() -> None:
    passes = Passes(3)
    passes.add(np.stack([HERE] * 5), np.int32([1, 1, 1, 0, UNLABELLED]))
    passes.add(HERE[None], np.int32([1]))
    assert passes.agreement() == 1.0


def test_drives_with_frames_of_their_own_do_not_meet() -> None:
    passes = Passes(2)
    passes.add(HERE[None], np.int32([0]), "monday")
    passes.add(HERE[None], np.int32([1]), "tuesday")
    assert math.isnan(passes.agreement())


def test_calibration_error() -> None:
    """Four points at 0.9, three right (0.75): |0.9 - 0.75|. One at 0.3, wrong: 0.3. (4 * 0.15 + 0.3) / 5."""
    calibration = Calibration()
    assert math.isnan(calibration.error())
    calibration.add(np.float32([0.9, 0.9, 0.9, 0.9]), np.array([True, True, True, False]))
    calibration.add(np.float32([0.3]), np.array([False]))
    assert calibration.error() == pytest.approx((4 * 0.15 + 0.3) / 5, abs=1e-6)
