"""Batch normalisation in training with what follows it, shortcut and ReLU, in few passes over the rows.

PyTorch makes a pass for each of the three, and several in the backward pass. Here it is compiled code
(:mod:`~ov3d_perception.sparse.norm_code`).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from ov3d_perception.sparse import norm_code
from ov3d_perception.sparse.norm_code import TERMS, NormStep, parts_of
from ov3d_perception.sparse.runtime import arena
from ov3d_perception.sparse.steps import bits_of, run_steps


def fits(feats: Tensor, norm: nn.Module) -> bool:
    """Whether :func:`normalise` does what ``norm``, then a sum and a ReLU, would do to these features."""
    return (
        can_be_compiled(norm)
        and norm.training
        and feats.device.type == "cpu"
        and feats.dtype == torch.float32
        and feats.shape[1] % 4 == 0
        and len(feats) > 1
        and not torch.is_autocast_enabled("cpu")
    )


def can_be_compiled(norm: nn.Module) -> bool:
    """Whether there is compiled code for this norm in training, or with kept statistics."""
    return (
        type(norm) is nn.BatchNorm1d
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and norm.weight.dtype == torch.float32
    )


def normalise(
    feats: Float32[Tensor, "n c"], norm: nn.BatchNorm1d, shortcut: Float32[Tensor, "n c"] | None, relu: bool
) -> Float32[Tensor, "n c"]:
    """``norm(feats) + shortcut``, then ReLU where asked for. Differentiable (once); running statistics follow."""
    count_batch(norm)
    out: Tensor = _Normalise.apply(feats, norm.weight, norm.bias, shortcut, norm, relu)
    return out


def count_batch(*norms: nn.BatchNorm1d) -> None:
    """One more batch that the running statistics are of."""
    for norm in norms:
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)


def norm_step(
    norm: nn.BatchNorm1d,
    feats: tuple[int, int],
    out: tuple[int, int],
    places: tuple[int, int],
    beside: tuple[int, int] = (0, 0),
    beside_terms: int = 0,
) -> NormStep:
    """The record of a norm. feats: address and rows; out, beside: address and distance of rows; places: of parts and
    terms."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    held = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    address, rows = feats
    weights = (tensor.data_ptr() for tensor in held)
    head = (0, 0, rows, norm.num_features, address, *out, *beside, beside_terms, *places, *weights)
    gradients = (0,) * (len(NormStep._fields) - len(head) - 2)
    return NormStep._make((*head, bits_of(norm.momentum), bits_of(norm.eps), *gradients))


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        feats: Tensor,
        weight: Tensor,
        bias: Tensor,
        shortcut: Tensor | None,
        norm: nn.BatchNorm1d,
        relu: bool,
    ) -> Tensor:
        feats, (count, channels) = feats.contiguous(), feats.shape
        beside = None if shortcut is None else shortcut.contiguous()
        out, terms = arena.empty(count, channels, feats), torch.empty(len(TERMS), channels)
        parts = torch.empty(parts_of(count), 2, channels)
        step = norm_step(
            norm,
            (feats.data_ptr(), count),
            (out.data_ptr(), channels),
            (parts.data_ptr(), terms.data_ptr()),
            (0, 0) if beside is None else (beside.data_ptr(), channels),
        )
        run_steps(norm_code.forward_steps(step, "none" if beside is None else "same", relu, kept=False), 0)
        ctx.save_for_backward(feats, weight, out if relu else None)
        ctx.step, ctx.terms, ctx.norm, ctx.sum = step, terms, norm, shortcut is not None
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        feats, weight, out = ctx.saved_tensors
        grad, relu, (count, channels) = grad.contiguous(), out is not None, feats.shape
        parts = torch.empty(parts_of(count), 2, channels)
        by_weight, by_bias = torch.empty_like(weight), torch.empty_like(weight)
        by_feats = arena.empty(count, channels, feats)
        passed = arena.empty(count, channels, feats) if ctx.sum and relu else None
        step = ctx.step._replace(
            parts=parts.data_ptr(),
            grad=grad.data_ptr(),
            grad_wide=channels,
            passed=0 if passed is None else passed.data_ptr(),
            passed_wide=channels,
            by_feats=by_feats.data_ptr(),
            by_weight=by_weight.data_ptr(),
            by_bias=by_bias.data_ptr(),
        )
        run_steps(norm_code.backward_steps(step, relu, False, "none" if passed is None else "written"), 0)
        by_sum = (passed if relu else grad) if ctx.sum else None
        return by_feats, by_weight, by_bias, by_sum, None, None
