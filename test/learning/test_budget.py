"""What fits into the time: by hand."""

from __future__ import annotations

import pytest

from ov3d_perception.errors import ResourceError
from ov3d_perception.learning.budget import MOST_EPOCHS, Costs, plan

COSTS = Costs(image=1.0, step=0.5, frame=2.0)


def test_the_rest_of_the_time_is_training() -> None:
    """0.9 * 1000 s less 100 images of 1 s and 50 frames of 2 s leave 700 s: 7 epochs of 200 steps of 0.5 s."""
    found = plan(COSTS, images=100, frames=200, exam=50, left=1000)
    assert found.epochs == 7 and found.seconds == pytest.approx(100 + 100 + 700)


def test_much_time_is_not_all_used() -> None:
    assert plan(COSTS, 100, 200, 50, 1e6).epochs == MOST_EPOCHS


def test_too_little_time_says_how_much_is_needed() -> None:
    """(100 + 100 + 2 * 100) / 0.9 s are 0.12 h."""
    with pytest.raises(ResourceError, match=r"takes 0\.12 h"):
        plan(COSTS, 100, 200, 50, 300)
