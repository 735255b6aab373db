"""Normalisation in training is PyTorch's, forward, backward and in its running statistics."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ov3d_perception.sparse.batch_norm import fits, norm_step, normalise
from ov3d_perception.sparse.norm_code import TERMS, backward_steps, forward_steps, parts_of
from ov3d_perception.sparse.steps import run_steps


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shortcut", [False, True])
@pytest.mark.parametrize(("rows", "channels"), [(2, 4), (257, 8), (300, 48), (2500, 20)])
def test_equals_pytorch(rows: int, channels: int, shortcut: bool, relu: bool, threads: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    feats = 3 + 2 * torch.randn(rows, channels, generator=generator)
    beside = torch.randn(rows, channels, generator=generator) if shortcut else None
    grad = torch.randn(rows, channels, generator=generator)
    norms = [nn.BatchNorm1d(channels), nn.BatchNorm1d(channels).double()]
    for norm in norms:
        with torch.no_grad():
            norm.weight.copy_(torch.linspace(-1, 2, channels))
            norm.bias.copy_(torch.linspace(1, -1, channels))
    before, results = torch.get_num_threads(), []
    torch.set_num_threads(threads)
    try:
        for norm, ours in zip(norms, (True, False), strict=True):
            kind = norm.weight.dtype
            x = feats.to(kind, copy=True).requires_grad_()
            y = None if beside is None else beside.to(kind, copy=True).requires_grad_()
            if ours:
                assert fits(x, norm)
                out = normalise(x, norm, y, relu)
            else:
                out = norm(x) if y is None else norm(x) + y
                out = torch.relu(out) if relu else out
            out.backward(grad.to(kind))
            grads = [x.grad, norm.weight.grad, norm.bias.grad, *([] if y is None else [y.grad])]
            results.append([out.detach(), *grads, norm.running_mean, norm.running_var, norm.num_batches_tracked])
    finally:
        torch.set_num_threads(before)
    for found, expected in zip(*results, strict=True):
        if rows == 2 and found.shape == feats.shape and found is not results[0][0]:
            continue  # of two rows the gradient is zero but for rounding
        torch.testing.assert_close(found, expected.to(found.dtype), rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize(("rows", "channels"), [(3000, 48), (7, 20), (1025, 8)])
def test_rounded_as_pytorch_rounds(rows: int, channels: int) -> None:
    """In a part of wider rows: the result beside itself, the gradient in its place."""
    norm = nn.BatchNorm1d(channels).requires_grad_(False)
    feats, out, grad, by_feats = (torch.randn(rows, channels) for _ in range(4))
    halves = torch.zeros(rows, channels + 8, dtype=torch.bfloat16)
    terms, parts = torch.empty(len(TERMS), channels), torch.empty(parts_of(rows), 2, channels)
    places = parts.data_ptr(), terms.data_ptr()
    step = norm_step(norm, (feats.data_ptr(), rows), (out.data_ptr(), channels), places)
    step = step._replace(half=halves[:, 8:].data_ptr(), half_wide=channels + 8)
    run_steps(forward_steps(step, "none", relu=True, kept=False), 0)
    assert torch.equal(halves[:, 8:], out.bfloat16()) and out.any() and not halves[:, :8].any()
    sums = torch.empty(2, channels)
    back = step._replace(grad=grad.data_ptr(), grad_wide=channels, by_feats=by_feats.data_ptr())
    back = back._replace(by_weight=sums[0].data_ptr(), by_bias=sums[1].data_ptr())
    run_steps(backward_steps(back, relu=True, kept=False), 0)
    run_steps(backward_steps(back._replace(half=0), relu=True, kept=False), 0)
    assert torch.equal(halves[:, 8:], by_feats.bfloat16()) and by_feats.any() and not halves[:, :8].any()


def test_a_large_mean_does_not_swallow_the_variance() -> None:
    feats = 1000 + torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
    norm = nn.BatchNorm1d(4)
    out = normalise(feats, norm, None, False)
    torch.testing.assert_close(out.std(0, unbiased=False), torch.ones(4), rtol=1e-3, atol=0)


def test_the_same_to_the_bit_with_any_number_of_threads() -> None:
    feats = torch.randn(5000, 16, generator=torch.Generator().manual_seed(0))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(normalise(feats, nn.BatchNorm1d(16), None, True))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@pytest.mark.parametrize(
    ("feats", "norm"),
    [
        (torch.ones(4, 8), nn.BatchNorm1d(8).eval()),
        (torch.ones(4, 6), nn.BatchNorm1d(6)),
        (torch.ones(1, 8), nn.BatchNorm1d(8)),
        (torch.ones(4, 8, dtype=torch.float64), nn.BatchNorm1d(8).double()),
        (torch.ones(4, 8), nn.BatchNorm1d(8, affine=False)),
        (torch.ones(4, 8), nn.SyncBatchNorm(8)),
        (torch.ones(4, 8), nn.Identity()),
    ],
)
def test_others_are_left_to_pytorch(feats: torch.Tensor, norm: nn.Module) -> None:
    assert not fits(feats, norm)
