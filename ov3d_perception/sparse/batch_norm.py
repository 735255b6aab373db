"""Batch normalisation in training with what follows it, shortcut and ReLU, in few passes over the rows.

PyTorch makes a pass for each of the three, and several in the backward pass. Here the forward pass reads the rows twice
(moments; result) and the backward pass, too (sums of the gradient; gradient). Compiled for this processor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from jaxtyping import Float32
from llvmlite import ir
from torch import Tensor, nn

from ov3d_perception.llvm_code import FLOAT, LONG, Code, compiled
from ov3d_perception.sparse.kernels import Tile, tile_for
from ov3d_perception.sparse.runtime import arena
from ov3d_perception.sparse.runtime.workers import run_on_threads

_PART = 256
"""Rows whose sums are float32; those of the parts are added in double precision, in the same order for any number of
threads."""


def fits(feats: Tensor, norm: nn.Module) -> bool:
    """Whether :func:`normalise` does what ``norm``, then a sum and a ReLU, would do to these features."""
    return (
        type(norm) is nn.BatchNorm1d
        and norm.training
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and feats.device.type == "cpu"
        and feats.dtype == norm.weight.dtype == torch.float32
        and feats.shape[1] % 4 == 0
        and len(feats) > 1
        and not torch.is_autocast_enabled("cpu")
    )


def normalise(
    feats: Float32[Tensor, "n c"], norm: nn.BatchNorm1d, shortcut: Float32[Tensor, "n c"] | None, relu: bool
) -> Float32[Tensor, "n c"]:
    """``norm(feats) + shortcut``, then ReLU where asked for. Differentiable (once); running statistics follow."""
    out, mean, variance = _Normalise.apply(feats, norm.weight, norm.bias, shortcut, norm.eps, relu)
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    assert norm.momentum is not None
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (len(feats) / (len(feats) - 1)), norm.momentum)
    return out


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, feats: Tensor, weight: Tensor, bias: Tensor, shortcut: Tensor | None, eps: float, relu: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        feats = feats.contiguous()
        first, count = feats[0], len(feats)
        moments = _in_parts(_moments(tile_for(feats.shape[1])), (feats, first), feats.shape) / count
        variance = (moments[1] - moments[0] ** 2).clamp_min(0)
        mean, inverse = moments[0] + first.double(), (variance + eps).rsqrt()
        scale = inverse * weight.double()
        out = arena.empty(count, feats.shape[1], feats)
        terms = [feats, scale.float(), (bias.double() - mean * scale).float()]
        terms += [] if shortcut is None else [shortcut.contiguous()]
        _over_rows(_result(tile_for(feats.shape[1]), shortcut is not None, relu), [*terms, out])
        ctx.save_for_backward(feats, out if relu else None, mean, inverse, weight)
        ctx.sum = shortcut is not None
        mean, variance = mean.float(), variance.float()
        ctx.mark_non_differentiable(mean, variance)
        return out, mean, variance

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        feats, out, mean, inverse, weight = ctx.saved_tensors
        grad, relu, (count, channels) = grad.contiguous(), out is not None, feats.shape
        tile = tile_for(channels)
        seen = [grad, out] if relu else [grad]
        sums = _in_parts(_gradient_sums(tile, relu), (*seen, feats, mean.float()), feats.shape)
        by_bias, by_weight = sums[0], sums[1] * inverse
        scale = inverse * weight.double()
        slope = -scale * inverse * by_weight / count
        offset = -scale * by_bias / count - slope * mean
        by_feats = arena.empty(count, channels, feats)
        passed = arena.empty(count, channels, feats) if ctx.sum and relu else None
        terms = [*seen, feats, scale.float(), slope.float(), offset.float(), by_feats]
        _over_rows(_gradient(tile, relu, passed is not None), terms if passed is None else [*terms, passed])
        by_sum = (passed if relu else grad) if ctx.sum else None
        return by_feats, by_weight.float(), by_bias.float(), by_sum, None, None


def _in_parts(run: Callable[..., None], arrays: tuple[Tensor, ...], shape: torch.Size) -> Tensor:
    """Two sums for each channel, (2, c) in double precision."""
    count, channels = shape
    parts = torch.empty(-(-count // _PART), 2, channels)
    addresses = [array.data_ptr() for array in (*arrays, parts)]
    _on_threads(lambda begin, end: run(*addresses, begin, end, channels), count)
    return parts.double().sum(0)


def _over_rows(run: Callable[..., None], arrays: list[Tensor]) -> None:
    addresses, (count, channels) = [array.data_ptr() for array in arrays], arrays[0].shape
    _on_threads(lambda begin, end: run(*addresses, begin, end, channels), count)


def _on_threads(work: Callable[[int, int], None], count: int) -> None:
    """Call ``work`` with ranges of rows, each a multiple of the parts."""
    threads = torch.get_num_threads() if count >= 8 * _PART else 1
    share = -(-count // (_PART * threads)) * _PART
    ranges = [(begin, min(begin + share, count)) for begin in range(0, count, share)]

    def share_of(shared: Iterable[tuple[int, int]]) -> None:
        for begin, end in shared:
            work(begin, end)

    run_on_threads(share_of, ranges, torch.device("cpu"))


@cache
def _moments(tile: Tile) -> Callable[..., None]:
    """Sums of ``feats - first`` and of its squares."""

    def write(code: Code) -> None:
        feats, first, parts, begin, end, channels = code.fn.args

        def terms(row: ir.Value, at: ir.Value, known: list[ir.Value]) -> tuple[ir.Value, ir.Value]:
            value = code.fsub(code.read(code.at(feats, (row, channels), at), tile.lanes), known[0])
            return value, value

        _sums(code, tile, parts, [first], terms, (begin, end, channels))

    return compiled(f"moments_{tile.vectors}_{tile.lanes}", [FLOAT] * 3 + [LONG] * 3, write)


@cache
def _gradient_sums(tile: Tile, relu: bool) -> Callable[..., None]:
    """Sums of the gradient, and of the gradient times ``feats - mean``."""

    def write(code: Code) -> None:
        *seen, feats, mean, parts, begin, end, channels = code.fn.args

        def terms(row: ir.Value, at: ir.Value, known: list[ir.Value]) -> tuple[ir.Value, ir.Value]:
            grad = _passed(code, seen, row, at, tile, channels)
            return grad, code.fsub(code.read(code.at(feats, (row, channels), at), tile.lanes), known[0])

        _sums(code, tile, parts, [mean], terms, (begin, end, channels))

    name = f"gradient_sums_{tile.vectors}_{tile.lanes}_{relu}"
    return compiled(name, [FLOAT] * (5 if relu else 4) + [LONG] * 3, write)


def _sums(
    code: Code,
    tile: Tile,
    parts: ir.Value,
    constants: list[ir.Value],
    terms: Callable[[ir.Value, ir.Value, list[ir.Value]], tuple[ir.Value, ir.Value]],
    shape: tuple[ir.Value, ir.Value, ir.Value],
) -> None:
    """For each part of the rows and each channel the sum of the first term and that of the product of the two."""
    begin, end, channels = shape
    floats = ir.VectorType(FLOAT, tile.lanes)
    zero = ir.Constant(floats, [0.0] * tile.lanes)
    with code.loop(begin, end, _PART) as start, code.loop(0, channels, tile.columns) as column:
        places = [code.add(column, LONG(n * tile.lanes)) for n in range(tile.vectors)]
        known = [[code.read(code.at(base, at), tile.lanes) for base in constants] for at in places]
        sums = [[code.variable(floats, zero) for _ in range(2)] for _ in places]
        with code.loop(start, code.least(code.add(start, LONG(_PART)), end)) as row:
            for at, constant, (plain, products) in zip(places, known, sums, strict=True):
                first, second = terms(row, at, constant)
                code.store(code.fadd(code.load(plain), first), plain)
                code.store(code.multiply_add(first, second, code.load(products)), products)
        part = code.mul(code.sdiv(start, LONG(_PART)), LONG(2))
        for at, both in zip(places, sums, strict=True):
            for number, place in enumerate(both):
                code.write(code.load(place), code.at(parts, (code.add(part, LONG(number)), channels), at))


def _passed(code: Code, seen: list[ir.Value], row: ir.Value, at: ir.Value, tile: Tile, channels: ir.Value) -> ir.Value:
    """The gradient before the ReLU: zero where its output is. seen: the gradient and, with a ReLU, the output."""
    grad, *out = [code.read(code.at(array, (row, channels), at), tile.lanes) for array in seen]
    zero = ir.Constant(grad.type, [0.0] * tile.lanes)
    return code.select(code.fcmp_ordered(">", out[0], zero), grad, zero) if out else grad


@cache
def _result(tile: Tile, shortcut: bool, relu: bool) -> Callable[..., None]:
    def write(code: Code) -> None:
        feats, scale, offset, *beside, out, begin, end, channels = code.fn.args
        with code.loop(begin, end) as row, code.loop(0, channels, tile.lanes) as at:
            value, *added = [code.read(code.at(array, (row, channels), at), tile.lanes) for array in (feats, *beside)]
            factor, shift = (code.read(code.at(array, at), tile.lanes) for array in (scale, offset))
            value = code.multiply_add(value, factor, shift)
            for other in added:
                value = code.fadd(value, other)
            if relu:
                zero = ir.Constant(value.type, [0.0] * tile.lanes)
                value = code.select(code.fcmp_ordered("<=", value, zero), zero, value)
            code.write(value, code.at(out, (row, channels), at))

    return compiled(f"result_{tile.lanes}_{shortcut}_{relu}", [FLOAT] * (5 if shortcut else 4) + [LONG] * 3, write)


@cache
def _gradient(tile: Tile, relu: bool, shortcut: bool) -> Callable[..., None]:
    """``scale * grad + slope * feats + offset``, and the gradient of the shortcut."""

    def write(code: Code) -> None:
        seen, rest = code.fn.args[: 2 if relu else 1], code.fn.args[2 if relu else 1 :]
        feats, scale, slope, offset, by_feats, *passed, begin, end, channels = rest
        with code.loop(begin, end) as row, code.loop(0, channels, tile.lanes) as at:
            grad = _passed(code, list(seen), row, at, tile, channels)
            factors = (code.read(code.at(array, at), tile.lanes) for array in (scale, slope, offset))
            by_grad, by_value, constant = factors
            value = code.read(code.at(feats, (row, channels), at), tile.lanes)
            result = code.multiply_add(grad, by_grad, code.multiply_add(value, by_value, constant))
            code.write(result, code.at(by_feats, (row, channels), at))
            for place in passed:
                code.write(grad, code.at(place, (row, channels), at))

    count = 6 + relu + shortcut
    return compiled(f"gradient_{tile.lanes}_{relu}_{shortcut}", [FLOAT] * count + [LONG] * 3, write)
