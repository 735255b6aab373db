"""Schedules, optimisers and the average of the weights, against hand-computed values."""

import numpy as np
import pytest
import torch

from ov3d_perception.networks.minkunet import MinkUNet
from ov3d_perception.recipes.specs import OptimiserSpec
from ov3d_perception.training.student import Student, clip


@pytest.mark.parametrize("schedule", ["onecycle", "poly", "cosine"])
def test_rate_ends_near_zero_and_peaks_where_it_should(schedule):
    spec = OptimiserSpec(schedule=schedule, learning_rate=0.01, warmup=0.2)
    module = Student(MinkUNet("MinkUNet14A", 1, 4, 0.1), spec, steps=100)
    configured = module.configure_optimizers()
    optimiser, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(100):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    assert max(rates) == pytest.approx(0.01, rel=1e-3)
    assert int(np.argmax(rates)) == {"onecycle": 20, "poly": 0, "cosine": 0}[schedule]
    assert rates[-1] < 0.0003
    if schedule == "poly":
        assert rates[50] == pytest.approx(0.01 * 0.5**0.9)
    if schedule == "cosine":
        assert rates[25] == pytest.approx(0.01 * (1 + np.cos(np.pi / 4)) / 2)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("steps", [1, 2, 4, 9, 19])
def test_a_run_of_few_steps_has_a_schedule(steps, warmup):
    """A tenth of 10, the schedule's length for 9 steps, is one: a rise of no length."""
    spec = OptimiserSpec(learning_rate=0.01, warmup=warmup)
    configured = Student(MinkUNet("MinkUNet14A", 1, 4, 0.1), spec, steps=steps).configure_optimizers()
    optimiser, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    assert min(rates) > 0 and max(rates) <= 0.01
    if steps > 1:
        assert max(rates) > 0.007


def test_stochastic_gradient_descent_has_the_papers_momentum():
    spec = OptimiserSpec(algorithm="sgd", schedule="cosine", weight_decay=1e-4, learning_rate=0.1)
    optimiser = Student(MinkUNet("MinkUNet14A", 1, 4, 0.1), spec, steps=3).configure_optimizers()["optimizer"]
    group = optimiser.param_groups[0]
    assert isinstance(optimiser, torch.optim.SGD)
    assert (group["momentum"], group["dampening"], group["weight_decay"], group["lr"]) == (0.9, 0.1, 1e-4, 0.1)


def test_the_average_follows_weights_and_statistics():
    """Weights 1, then 0 for two steps, decay 1/2: the first update copies, then 1/2 and 1/4 remain."""
    spec = OptimiserSpec(ema_decay=0.5)
    module = Student(MinkUNet("MinkUNet14A", 1, 4, 0.1), spec, steps=3)
    assert module.student is not module.network
    for value in (1.0, 0.0, 0.0):
        with torch.no_grad():
            module.network.final.kernel.fill_(value)
            module.network.bn0.bn.running_mean.fill_(value)
        module.follow()
    torch.testing.assert_close(module.student.final.kernel, torch.full_like(module.network.final.kernel, 0.25))
    assert module.student.bn0.bn.running_mean[0].item() == pytest.approx(0.25)
    trained = {id(p) for group in module.configure_optimizers()["optimizer"].param_groups for p in group["params"]}
    assert trained == {id(p) for p in module.network.parameters()}


def test_without_an_average_the_weights_are_kept():
    module = Student(MinkUNet("MinkUNet14A", 1, 4, 0.1), OptimiserSpec(), steps=3)
    assert module.student is module.network


@pytest.mark.parametrize("most", [0.5, 50.0])
def test_long_gradients_are_cut_as_by_pytorch_and_short_ones_left_alone(most):
    ours, theirs = ([torch.nn.Parameter(torch.ones(shape)) for shape in ((3, 4), (5,), (2,))] for _ in range(2))
    for own, other in zip(ours[:2], theirs[:2], strict=True):
        own.grad = torch.randn(own.shape)
        other.grad = own.grad.clone()
    clip(ours, most)
    torch.nn.utils.clip_grad_norm_(theirs, most)
    for own, other in zip(ours[:2], theirs[:2], strict=True):
        torch.testing.assert_close(own.grad, other.grad)
    assert ours[2].grad is None
    clip(ours[2:], most)


def test_a_gradient_that_is_no_number_is_not_hidden():
    parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    parameters[0].grad, parameters[1].grad = torch.tensor([torch.nan, 1.0]), torch.ones(2)
    clip(parameters, 5.0)
    assert parameters[1].grad.isnan().all()
