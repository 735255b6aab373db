"""Cosines of a linear head's output, without the output."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ov3d_perception.methods.kl import agreement_loss, divergence
from ov3d_perception.methods.linear_head import HeadCosines
from ov3d_perception.methods.openscene import OpenSceneStep, distillation_loss, losses


def a_head() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """z and W with gradients, a vector for each z, words."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(40, 6, generator=generator).relu().requires_grad_()
    head = torch.randn(6, 9, generator=generator).requires_grad_()
    others, words = (functional.normalize(torch.randn(n, 9, generator=generator), dim=1) for n in (40, 5))
    return points, head, others, words


def test_they_are_the_cosines_of_the_output() -> None:
    points, head, others, words = a_head()
    found = HeadCosines(points, head)
    torch.testing.assert_close(found.with_each(others), functional.cosine_similarity(points @ head, others))
    every = functional.cosine_similarity((points @ head)[:, None], words, dim=2)
    torch.testing.assert_close(found.with_all(words), every)


def test_zero_is_orthogonal_to_all() -> None:
    _, head, others, words = a_head()
    found = HeadCosines(torch.zeros(40, 6), head)
    assert not found.with_each(others).any() and not found.with_all(words).any()


def test_losses_and_gradients_are_those_of_the_output() -> None:
    """By the features and by the head, of both losses together."""
    points, head, others, words = a_head()
    weight = torch.linspace(0.1, 2.0, 40)
    student = HeadCosines(points, head)
    loss = losses(OpenSceneStep(student, others, weight))["distillation"]
    loss = loss + divergence(7.0 * student.with_all(words), 7.0 * others @ words.T, weight)
    features = points @ head
    expected = distillation_loss(features, others, weight) + agreement_loss(features, others, words, 7.0, weight)
    torch.testing.assert_close(loss, expected)
    for found, wanted in zip(
        torch.autograd.grad(loss, (points, head)), torch.autograd.grad(expected, (points, head)), strict=True
    ):
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_rounds_nothing(dtype: torch.dtype) -> None:
    points, head, others, words = (part.detach().to(dtype) for part in a_head())
    with torch.autocast("cpu", torch.bfloat16):
        found = HeadCosines(points, head)
        each, every = found.with_each(others), found.with_all(words)
    exact = HeadCosines(points.float(), head.float())
    assert torch.equal(each, exact.with_each(others)) and torch.equal(every, exact.with_all(words))
