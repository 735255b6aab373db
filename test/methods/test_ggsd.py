"""GGSD's equations against slow loops and hand-computed values."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ov3d_perception.methods.ggsd import (
    GgsdOptions,
    GgsdStep,
    class_scores,
    losses,
    means,
    pseudo_labels,
    self_distillation_loss,
    superpoint_distillation_loss,
    vote,
)
from ov3d_perception.methods.linear_head import HeadCosines

EYE = torch.eye(2)
SUPERPOINT = torch.tensor([4, 4, 4, -1, 9, 9, 2])
SEEN = torch.tensor([6, 1, 0, 3])


def unit(*shape: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape), dim=1)


def random_step(label: Tensor | None = None, weight: Tensor | None = None) -> GgsdStep:
    torch.manual_seed(0)
    return GgsdStep(
        points=torch.randn(7, 3, requires_grad=True),
        head=torch.randn(3, 5, requires_grad=True),
        seen=SEEN,
        pixels=unit(4, 5),
        superpoint=SUPERPOINT,
        text=unit(4, 5),
        word_class=torch.tensor([0, 1, 1, 2]),
        label=label,
        weight=weight,
    )


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b) / (a.norm() * b.norm())


def slow_superpoint_loss(step: GgsdStep) -> Tensor:
    """Equations (2) and (3), one superpoint after the other, with f_3D of every point."""
    features, pixel = step.points @ step.head, dict(zip(step.seen.tolist(), step.pixels, strict=True))
    parts = []
    for number in {int(n) for n in step.superpoint if n >= 0}:
        members = [q for q in range(len(features)) if step.superpoint[q] == number]
        told = [pixel[q] for q in members if q in pixel]
        if told:
            mean_3d = sum(features[q] for q in members) / len(members)
            parts.append(1 - cosine(sum(told) / len(told), mean_3d))
    return torch.stack(parts).mean()


def test_superpoints_of_known_angles() -> None:
    """One superpoint: f_3D (1, 0) and (0, 3), of which the first is seen, as (0, 1): mean (0.5, 1.5).
    Another: nothing is seen. A third: seen as what it is."""
    points = torch.tensor([[1.0, 0.0], [0.0, 3.0], [1.0, 1.0], [2.0, 0.0]])
    pixels = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    loss = superpoint_distillation_loss(points, EYE, torch.tensor([0, 3]), pixels, torch.tensor([5, 5, 6, 7]))
    assert loss.item() == pytest.approx((1 - 1.5 / math.hypot(0.5, 1.5)) / 2, abs=1e-6)


def test_superpoint_loss_and_its_gradients_are_the_loops() -> None:
    step = random_step()
    found = superpoint_distillation_loss(step.points, step.head, step.seen, step.pixels, step.superpoint)
    expected = slow_superpoint_loss(step)
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad(found, (step.points, step.head)),
        torch.autograd.grad(expected, (step.points, step.head)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_a_point_that_no_pixel_sees_learns_from_its_superpoint_and_one_of_none_does_not() -> None:
    step = random_step()
    superpoint_distillation_loss(step.points, step.head, step.seen, step.pixels, step.superpoint).backward()
    assert step.points.grad is not None
    moved = step.points.grad.abs().sum(1) > 1e-6
    assert moved.tolist() == [True, True, True, False, False, False, True]


def test_means_of_superpoints() -> None:
    found = means(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([2, 0, 2]), 4)
    assert found.tolist() == [[3.0], [0.0], [3.0], [0.0]]


def test_the_label_is_the_word_of_the_highest_product() -> None:
    psi = torch.tensor([[0.2, 0.3, 0.1], [0.5, 0.1, 0.4]])
    assert pseudo_labels(psi, torch.tensor([0, 1, 2])).tolist() == [1, 0]
    assert pseudo_labels(psi, torch.tensor([2, 0, 1])).tolist() == [0, 2]


def test_the_words_of_a_class_add_up() -> None:
    """tau log 2 = 0.0069: two words at 0.200 outweigh one at 0.205, not one at 0.210."""
    word_class = torch.tensor([0, 0, 1])
    psi = torch.tensor([[0.2, 0.2, 0.205], [0.2, 0.2, 0.21]])
    assert pseudo_labels(psi, word_class).tolist() == [0, 1]
    scores = class_scores(psi, word_class)
    torch.testing.assert_close(scores, torch.tensor([[20 + math.log(2), 20.5], [20 + math.log(2), 21.0]]))


def test_voting_by_hand() -> None:
    """Superpoint 3: labels 1 1 2, so 1. Superpoint 8: 2 0, a tie, the lower. Points of none keep 2 and 1. A superpoint
    of one point keeps its label."""
    label = torch.tensor([1, 2, 2, 1, 0, 2, 1, 2])
    superpoint = torch.tensor([3, 8, 3, 3, 8, -1, -1, 0])
    assert vote(label, superpoint, 3).tolist() == [1, 0, 1, 1, 0, 2, 1, 2]


def test_voting_is_the_loops_and_settles_at_once() -> None:
    torch.manual_seed(1)
    label, superpoint = torch.randint(0, 4, (200,)), torch.randint(-1, 30, (200,))
    found = vote(label, superpoint, 4)
    for number in range(-1, 30):
        mine = superpoint == number
        if number < 0:
            assert found[mine].tolist() == label[mine].tolist()
        else:
            counts = [(label[mine] == c).sum().item() for c in range(4)]
            assert set(found[mine].tolist()) <= {counts.index(max(counts))}
    assert (vote(found, superpoint, 4) == found).all()
    nothing = torch.zeros(0, dtype=torch.int64)
    assert vote(nothing, nothing, 4).shape == (0,)


def test_equation_6_by_hand() -> None:
    """tau 0.5, products 1 and 0: exp(2) and exp(0)."""
    psi = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    z = math.exp(2) + 1
    expected = (-math.log(math.exp(2) / z) - math.log(1 / z)) / 2
    found = self_distillation_loss(psi, torch.tensor([0, 1]), torch.tensor([0, 1]), 0.5)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_equation_6_is_the_loop_over_words() -> None:
    step = random_step()
    psi, label = HeadCosines(step.points, step.head).with_all(step.text), torch.tensor([0, 1, 2, 2, 1, 0, 1])
    parts = []
    for row, right in zip(psi, label, strict=True):
        own = sum(torch.exp(row[w] / 0.1) for w in range(4) if step.word_class[w] == right)
        parts.append(-torch.log(own / sum(torch.exp(value / 0.1) for value in row)))
    torch.testing.assert_close(self_distillation_loss(psi, label, step.word_class, 0.1), torch.stack(parts).mean())


def test_a_step_is_the_sum_of_the_papers_parts() -> None:
    label = torch.tensor([0, 1, 2, 2, 1, 0, 1])
    step = random_step(label)
    found = losses(step, GgsdOptions(superpoint=2.0, self_distillation=3.0))
    features = step.points @ step.head
    pixel_point = torch.stack([1 - cosine(features[q], x) for q, x in zip(step.seen, step.pixels, strict=True)]).mean()
    psi = HeadCosines(step.points, step.head).with_all(step.text)
    assert list(found) == ["pixel_point", "superpoint", "self_distillation"]
    torch.testing.assert_close(found["pixel_point"], pixel_point)
    torch.testing.assert_close(found["superpoint"], 2 * slow_superpoint_loss(step))
    torch.testing.assert_close(found["self_distillation"], 3 * self_distillation_loss(psi, label, step.word_class))


def test_weights_count_in_the_pixel_point_loss() -> None:
    only = random_step(weight=torch.tensor([0.0, 1.0, 0.0, 0.0]))
    found = losses(only, GgsdOptions())["pixel_point"]
    torch.testing.assert_close(found, 1 - cosine(only.points[1] @ only.head, only.pixels[1]))


@pytest.mark.parametrize(
    ("options", "labelled", "names"),
    [
        (GgsdOptions(superpoint=0, self_distillation=0), True, ["pixel_point"]),
        (GgsdOptions(self_distillation=0), True, ["pixel_point", "superpoint"]),
        (GgsdOptions(), False, ["pixel_point", "superpoint"]),
        (GgsdOptions(superpoint=0), True, ["pixel_point", "self_distillation"]),
    ],
)
def test_parts_can_be_left_out(options: GgsdOptions, labelled: bool, names: list[str]) -> None:
    label = torch.zeros(7, dtype=torch.int64) if labelled else None
    assert list(losses(random_step(label), options)) == names


def test_without_a_pixel_the_losses_are_zero_and_have_a_gradient() -> None:
    points = torch.randn(3, 2, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    step = GgsdStep(points, EYE, none, torch.zeros(0, 2), torch.tensor([-1, 0, 0]), EYE, torch.tensor([0, 1]))
    total = sum(losses(step, GgsdOptions()).values())
    total.backward()
    assert total.item() == 0.0 and points.grad is not None
    assert self_distillation_loss(torch.zeros(0, 2), none, torch.tensor([0, 1])).item() == 0.0
