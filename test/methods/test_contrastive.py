"""The losses of PPKT and SLidR against slow loops and hand-computed values."""

import math

import pytest
import torch
import torch.nn.functional as F

from ov3d_perception.methods.contrastive import info_nce, segment_means, superpixel_info_nce


def loop(points, pixels, temperature):
    total = torch.zeros((), dtype=points.dtype)
    for i in range(len(points)):
        below = sum(torch.exp(points[i] @ pixels[j] / temperature) for j in range(len(points)))
        total = total - torch.log(torch.exp(points[i] @ pixels[i] / temperature) / below) / len(points)
    return total


def pairs(count=6):
    generator = torch.Generator().manual_seed(3)
    return F.normalize(torch.randn(2, count, 4, generator=generator, dtype=torch.float64), dim=-1)


def same(loss, oracle, points):
    ours, theirs = points.clone().requires_grad_(), points.clone().requires_grad_()
    loss(ours).backward()
    oracle(theirs).backward()
    torch.testing.assert_close(loss(points), oracle(points))
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_info_nce_is_the_loop():
    points, pixels = pairs()
    same(lambda p: info_nce(p, pixels, 0.2), lambda p: loop(p, pixels, 0.2), points)


def test_two_orthogonal_pairs_by_hand():
    loss = info_nce(torch.eye(2), torch.eye(2), 0.5)
    assert loss.item() == pytest.approx(-math.log(math.exp(2) / (math.exp(2) + 1)))


def test_superpixels_are_means_of_their_pairs():
    points, pixels = pairs()
    segment = torch.tensor([7, 2, 7, 7, 2, 9])
    rows = [[1, 4], [0, 2, 3], [5]]

    def oracle(p):
        superpoints = torch.stack([p[row].mean(0) for row in rows])
        superpixels = torch.stack([pixels[row].mean(0) for row in rows])
        return loop(superpoints, superpixels, 0.1)

    same(lambda p: superpixel_info_nce(p, pixels, segment, 0.1), oracle, points)
    means = segment_means(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([1, 0, 1]))
    torch.testing.assert_close(means, torch.tensor([[3.0], [3.0]]))


def test_without_a_pair_the_losses_are_zero_and_have_a_gradient():
    nothing = torch.zeros(0, 4, requires_grad=True)
    loss = info_nce(nothing, nothing) + superpixel_info_nce(nothing, nothing, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0.0
