"""The weights of the teacher's classes, against hand-computed values."""

import numpy as np
import pytest
import torch

from ov3d_perception.training.balance import Balance


def test_weights_are_inverse_to_what_was_said_so_far():
    """Words 1 and 2 are of one class: totals 1 + 8 and 1 + 2, so the second class weighs three times as much."""
    balance = Balance(np.array([0, 1, 1]), power=1.0)
    weights = balance.weights(torch.tensor([0] * 8 + [1, 2]))
    torch.testing.assert_close(balance.total, torch.tensor([9.0, 3.0], dtype=torch.float64))
    assert weights.mean().item() == pytest.approx(1.0)
    assert (weights[8] / weights[0]).item() == pytest.approx(3.0)
    assert weights[8] == weights[9]


def test_power_zero_weighs_all_alike():
    weights = Balance(np.arange(3), power=0.0).weights(torch.tensor([0, 0, 1]))
    torch.testing.assert_close(weights, torch.ones(3))
