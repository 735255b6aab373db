"""The memory of a site: diverse, and bounded."""

from __future__ import annotations

import numpy as np

from ov3d_perception.learning.replay import k_center


def test_each_choice_is_the_farthest_from_those_before() -> None:
    """On a line 0, 1, 2, 6, 10: 2 is nearest to the mean (3.8), 10 is 8 away from it, 6 is 4 away from both."""
    points = np.float32([[0], [1], [2], [6], [10]])
    assert k_center(points, 3) == [2, 4, 3]


def test_no_more_than_there_are() -> None:
    assert k_center(np.zeros((2, 3), np.float32), 5) == [0, 1]


def test_rare_frames_are_kept_among_many_alike() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(0, 0.01, (200, 4)), np.eye(4)]).astype(np.float32)
    assert {200, 201, 202, 203} <= set(k_center(points, 6))
