"""The weights of the teacher's classes, and the schedules, against hand-computed values."""

import numpy as np
import pytest
import torch

from ov3d_perception.networks.minkunet import MinkUNet
from ov3d_perception.training.module import Balance, Distillation
from ov3d_perception.training.recipe import OptimiserSpec

EYE = np.eye(3, dtype=np.float32)


def test_weights_are_inverse_to_what_the_teacher_said_so_far():
    balance = Balance(EYE, np.array([0, 1, 1]), power=1.0)
    target = torch.tensor(EYE)[[0] * 8 + [1, 2]]
    weights = balance.weights(target)
    torch.testing.assert_close(balance.total, torch.tensor([9.0, 3.0], dtype=torch.float64))
    assert weights.mean().item() == pytest.approx(1.0)
    assert (weights[8] / weights[0]).item() == pytest.approx(3.0)
    assert weights[8] == weights[9]


def test_power_zero_weighs_all_alike():
    weights = Balance(EYE, np.arange(3), power=0.0).weights(torch.tensor(EYE)[[0, 0, 1]])
    torch.testing.assert_close(weights, torch.ones(3))


@pytest.mark.parametrize("schedule", ["onecycle", "poly"])
def test_rate_ends_near_zero_and_peaks_where_it_should(schedule):
    spec = OptimiserSpec(schedule=schedule, learning_rate=0.01, warmup=0.2)
    module = Distillation(MinkUNet("MinkUNet14A", 1, 4, 0.1), spec, steps=100)
    configured = module.configure_optimizers()
    optimiser, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(100):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    assert max(rates) == pytest.approx(0.01, rel=1e-3)
    assert int(np.argmax(rates)) == {"onecycle": 20, "poly": 0}[schedule]
    assert rates[-1] < 0.0003
    if schedule == "poly":
        assert rates[50] == pytest.approx(0.01 * 0.5**0.9)
