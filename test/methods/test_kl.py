"""The divergence between the words of teacher and student, against hand-computed values."""

import math

import pytest
import torch

from ov3d_perception.methods.kl import KlStep, agreement_loss, losses


def test_agreement_is_the_divergence_of_two_known_distributions():
    text = torch.eye(2)
    student, teacher = torch.tensor([[5.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    p = 1 / (1 + math.exp(-2.0))  # logits 2 and 0
    expected = p * math.log(p / (1 - p)) + (1 - p) * math.log((1 - p) / p)
    assert agreement_loss(student, teacher, text, 2.0).item() == pytest.approx(expected, rel=1e-5)
    assert agreement_loss(teacher * 3, teacher, text, 2.0).item() == pytest.approx(0.0, abs=1e-6)


def test_agreement_looks_at_the_words_alone_and_weighs_pairs():
    text = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    teacher = torch.tensor([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]])
    student = torch.tensor([[0.6, 0.0, -0.8], [1.0, 0.0, 0.0]])
    assert agreement_loss(student, teacher, text, 5.0, torch.tensor([1.0, 0.0])).item() == pytest.approx(0.0, abs=1e-6)
    assert agreement_loss(student, teacher, text, 5.0, torch.tensor([0.0, 1.0])).item() > 1.0


def test_a_step_is_the_divergence_of_its_rows():
    text, rows = torch.eye(2), torch.tensor([[5.0, 0.0], [0.0, 1.0]])
    found = losses(KlStep(rows, rows.flip(0) / 5, text, 2.0, torch.tensor([1.0, 2.0])))
    assert list(found) == ["kl"]
    torch.testing.assert_close(found["kl"], agreement_loss(rows, rows.flip(0) / 5, text, 2.0, torch.tensor([1.0, 2.0])))
