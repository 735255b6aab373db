"""The loss and the fusion against hand-computed values."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ov3d_perception.methods.linear_head import HeadCosines
from ov3d_perception.methods.openscene import OpenSceneStep, distillation_loss, fuse_views, losses


def test_loss_of_known_angles():
    student = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    expected = ((1 - 1) + (1 - 0) + (1 - math.sqrt(0.5))) / 3
    assert distillation_loss(student, teacher).item() == pytest.approx(expected, abs=1e-6)


def test_weights_make_a_weighted_mean():
    student = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert distillation_loss(student, teacher, torch.tensor([3.0, 1.0])).item() == pytest.approx(0.25)


def test_no_pair_gives_zero_and_a_gradient():
    student = torch.zeros(0, 4, requires_grad=True)
    loss = distillation_loss(student, torch.zeros(0, 4))
    loss.backward()
    assert loss.item() == 0.0


@given(st.floats(0.1, 10), st.integers(0, 5))
def test_loss_ignores_the_length_of_the_student(factor, seed):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 5, 8, generator=generator)
    torch.testing.assert_close(
        distillation_loss(student, teacher), distillation_loss(student * factor, teacher), atol=1e-5, rtol=1e-5
    )


def test_gradient_turns_the_student_to_the_teacher():
    student = torch.tensor([[1.0, 0.0]], requires_grad=True)
    distillation_loss(student, torch.tensor([[0.0, 1.0]])).backward()
    assert student.grad is not None
    torch.testing.assert_close(student.grad, torch.tensor([[0.0, -1.0]]))


def test_fusion_of_views_is_the_normalised_mean():
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.6, 0.8]])
    fused = fuse_views(features, torch.tensor([0, 0, 0, 2]), torch.ones(4), 3)
    norm = math.hypot(1, 2)
    torch.testing.assert_close(fused, torch.tensor([[1 / norm, 2 / norm], [0.0, 0.0], [0.6, 0.8]]))


def test_fusion_weights_count():
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    fused = fuse_views(features, torch.tensor([0, 0]), torch.tensor([3.0, 4.0]), 1)
    torch.testing.assert_close(fused, torch.tensor([[0.6, 0.8]]))


def test_a_step_is_equation_1_of_its_voxels():
    student, teacher = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    cosines = HeadCosines(student @ torch.tensor([[0.0, 5.0], [5.0, 0.0]]), torch.tensor([[0.0, 0.2], [0.2, 0.0]]))
    assert losses(OpenSceneStep(cosines, teacher))["distillation"].item() == pytest.approx(0.5)
    weighted = losses(OpenSceneStep(cosines, teacher, torch.tensor([1.0, 3.0])))
    assert list(weighted) == ["distillation"]
    assert weighted["distillation"].item() == pytest.approx(0.75)
