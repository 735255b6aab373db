"""PPKT's loss against a slow loop and hand-computed values."""

import math

import pytest
import torch
from info_nce import loop, pairs, same

from ov3d_perception.methods.ppkt import PpktStep, info_nce, losses


def test_info_nce_is_the_loop():
    points, pixels = pairs()
    same(lambda p: info_nce(p, pixels, 0.2), lambda p: loop(p, pixels, 0.2), points)


def test_two_orthogonal_pairs_by_hand():
    loss = info_nce(torch.eye(2), torch.eye(2), 0.5)
    assert loss.item() == pytest.approx(-math.log(math.exp(2) / (math.exp(2) + 1)))


def test_a_step_draws_some_of_the_pairs():
    """All four pairs, whatever their order; then two of them: each value of the loss belongs to one couple."""
    points, pixels = pairs(4)
    torch.manual_seed(0)
    whole = losses(PpktStep(points, pixels, samples=9, temperature=0.2))
    assert list(whole) == ["ppkt"]
    torch.testing.assert_close(whole["ppkt"], loop(points, pixels, 0.2))
    couples = [loop(points[[i, j]], pixels[[i, j]], 0.2).item() for i in range(4) for j in range(i)]
    drawn = {losses(PpktStep(points, pixels, 2, 0.2))["ppkt"].item() for _ in range(30)}
    assert len({round(value, 9) for value in drawn}) > 1
    assert all(min(abs(value - couple) for couple in couples) < 1e-9 for value in drawn)


def test_without_a_pair_the_loss_is_zero_and_has_a_gradient():
    nothing = torch.zeros(0, 4, requires_grad=True)
    loss = losses(PpktStep(nothing, nothing))["ppkt"]
    loss.backward()
    assert loss.item() == 0.0
