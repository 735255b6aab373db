"""InfoNCE as a slow loop, and pairs of unit vectors: the oracle of PPKT and SLidR."""

import torch
import torch.nn.functional as F


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
