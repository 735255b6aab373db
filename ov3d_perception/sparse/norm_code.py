"""Batch normalisation in training, with the sum and the ReLU that follow it, as records of compiled code.

Forward the rows are read twice (moments; result), backward, too (sums of the gradient; gradient). Between the two, one
block turns the sums into a factor and a term for each channel. With ``kept`` statistics (a norm in evaluation mode
whose weights are trained) there are no moments, and the gradient does not pass through them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from llvmlite import ir

from ov3d_perception.llvm_code import DOUBLE, FLOAT, HALF, LONG, Code
from ov3d_perception.sparse.kernels import Tile, tile_for
from ov3d_perception.sparse.steps import Record, step_function

PART = 256
"""Rows whose sums are float32; those of the parts are added in double precision, in the same order for any number of
threads."""
_BLOCK = 4 * PART
TERMS = ("scale", "shift", "mean", "inverse", "slope", "offset")
"""What is known of each channel: ``out = feats * scale + shift``; statistics, inverse: of the standard deviation;
``gradient = grad * scale + feats * slope + offset``."""


class NormStep(NamedTuple):
    """A record of :mod:`~ov3d_perception.sparse.steps`; all functions here read the same one.

    Addresses are of the first element, 0 where there is none; ``wide`` numbers are elements from row to row. All is
    float32, but momentum and eps (see :func:`~ov3d_perception.sparse.steps.bits_of`).
    """

    function: int
    blocks: int
    rows: int
    channels: int
    feats: int  # what is normalised; contiguous
    out: int
    out_wide: int
    beside: int  # is added before the ReLU
    beside_wide: int
    beside_terms: int  # of its own normalisation: TERMS
    parts: int  # room for two sums a channel for each part of the rows
    terms: int
    weight: int
    bias: int
    running_mean: int
    running_var: int
    momentum: int
    eps: int
    grad: int = 0  # of the output
    grad_wide: int = 0
    passed: int = 0  # gradient of what was added
    passed_wide: int = 0
    by_feats: int = 0  # gradient of feats; may be the same memory
    by_weight: int = 0
    by_bias: int = 0
    half: int = 0  # in bfloat16: the result beside out; backward, the gradient instead of by_feats
    half_wide: int = 0


def parts_of(rows: int) -> int:
    """Into how many parts the rows are divided."""
    return -(-rows // PART)


def forward_steps(step: NormStep, beside: str, relu: bool, kept: bool) -> list[NormStep]:
    """Statistics, running ones too, and the result if there is a place for it. beside: none, same, normalised."""
    tile, blocks = tile_for(step.channels), -(-step.rows // _BLOCK)
    steps = [] if kept else [step._replace(function=_moments(tile), blocks=blocks)]
    steps.append(step._replace(function=_statistics(tile, kept), blocks=1))
    if not step.out:
        return steps
    return [*steps, step._replace(function=_result(tile, beside, relu, step.half != 0), blocks=blocks)]


def backward_steps(step: NormStep, relu: bool, kept: bool, passed: str = "none") -> list[NormStep]:
    """Gradients of weight and bias, and of the features. passed: the gradient of what was added is not wanted (none),
    written or added to what is there."""
    tile, blocks = tile_for(step.channels), -(-step.rows // _BLOCK)
    return [
        step._replace(function=_gradient_sums(tile, relu), blocks=blocks),
        step._replace(function=_gradient_statistics(tile, kept), blocks=1),
        step._replace(function=_gradient(tile, relu, passed, step.half != 0), blocks=blocks),
    ]


class _Rows:
    """Rows of a block, and arrays that are read by row and channel."""

    def __init__(self, code: Code, tile: Tile) -> None:
        record, block, _ = code.fn.args
        self.step, self._code, self.lanes = Record(code, record, NormStep._fields), code, tile.lanes
        self.count, self.channels = self.step.number("rows"), self.step.number("channels")
        self.begin = code.mul(block, LONG(_BLOCK))
        self.end = code.least(code.add(self.begin, LONG(_BLOCK)), self.count)

    def array(self, name: str, kind: ir.Type = FLOAT) -> Callable[[ir.Value, ir.Value], ir.Value]:
        """The address of a row's channel; ``NAME_wide`` is the distance of rows where there is such a field."""
        base = self.step.array(name, kind)
        wide = self.step.number(f"{name}_wide") if f"{name}_wide" in NormStep._fields else self.channels
        return lambda row, at: self._code.at(base, (row, wide), at)

    def term(self, name: str, of: str = "terms") -> Callable[[ir.Value], ir.Value]:
        """The address of one of :data:`TERMS` of a channel."""
        base = self._code.at(self.step.array(of, FLOAT), (LONG(TERMS.index(name)), self.channels))
        return lambda at: self._code.at(base, at)

    def per_channel(self, name: str) -> Callable[[ir.Value], ir.Value]:
        """The address of a channel's weight, bias or statistic."""
        base = self.step.array(name, FLOAT)
        return lambda at: self._code.at(base, at)

    def read(self, place: ir.Value) -> ir.Value:
        return self._code.read(place, self.lanes)


@cache
def _moments(tile: Tile) -> int:
    """Sums of ``feats - first row`` and of its squares."""

    def write(code: Code) -> None:
        rows = _Rows(code, tile)
        feats = rows.array("feats")

        def terms(row: ir.Value, at: ir.Value, known: ir.Value) -> tuple[ir.Value, ir.Value]:
            value = code.fsub(rows.read(feats(row, at)), known)
            return value, value

        _sums(code, tile, rows, lambda at: feats(LONG(0), at), terms)

    return step_function(f"norm_moments_{tile.vectors}_{tile.lanes}", write)


@cache
def _gradient_sums(tile: Tile, relu: bool) -> int:
    """Sums of the gradient, and of the gradient times ``feats - mean``."""

    def write(code: Code) -> None:
        rows = _Rows(code, tile)
        feats, passed = rows.array("feats"), _passed(code, rows, relu)

        def terms(row: ir.Value, at: ir.Value, known: ir.Value) -> tuple[ir.Value, ir.Value]:
            return passed(row, at), code.fsub(rows.read(feats(row, at)), known)

        _sums(code, tile, rows, rows.term("mean"), terms)

    return step_function(f"norm_gradient_sums_{tile.vectors}_{tile.lanes}_{relu}", write)


def _sums(
    code: Code,
    tile: Tile,
    rows: _Rows,
    constant: Callable[[ir.Value], ir.Value],
    terms: Callable[[ir.Value, ir.Value, ir.Value], tuple[ir.Value, ir.Value]],
) -> None:
    """For each part of the rows and each channel the sum of the first term and that of the product of the two."""
    zero = _constant(tile, 0.0)
    parts, channels = rows.step.array("parts", FLOAT), rows.channels
    with code.loop(rows.begin, rows.end, PART) as start, code.loop(0, channels, tile.columns) as column:
        places = [code.add(column, LONG(n * tile.lanes)) for n in range(tile.vectors)]
        known = [rows.read(constant(at)) for at in places]
        sums = [[code.variable(zero.type, zero) for _ in range(2)] for _ in places]
        with code.loop(start, code.least(code.add(start, LONG(PART)), rows.end)) as row:
            for at, constants, (plain, products) in zip(places, known, sums, strict=True):
                first, second = terms(row, at, constants)
                code.store(code.fadd(code.load(plain), first), plain)
                code.store(code.multiply_add(first, second, code.load(products)), products)
        part = code.mul(code.sdiv(start, LONG(PART)), LONG(2))
        for at, both in zip(places, sums, strict=True):
            for number, place in enumerate(both):
                code.write(code.load(place), code.at(parts, (code.add(part, LONG(number)), channels), at))


def _passed(code: Code, rows: _Rows, relu: bool) -> Callable[[ir.Value, ir.Value], ir.Value]:
    """The gradient before the ReLU: zero where its output is."""
    grad, out = rows.array("grad"), rows.array("out")

    def read(row: ir.Value, at: ir.Value) -> ir.Value:
        value = rows.read(grad(row, at))
        if not relu:
            return value
        none = ir.Constant(value.type, [0.0] * value.type.count)
        return code.select(code.fcmp_ordered(">", rows.read(out(row, at)), none), value, none)

    return read


@cache
def _statistics(tile: Tile, kept: bool) -> int:
    """Mean and variance of each channel, the running ones, scale and shift."""

    def write(code: Code) -> None:
        rows = _Rows(code, tile)
        weight, bias, mean_, var_ = map(rows.per_channel, ("weight", "bias", "running_mean", "running_var"))
        momentum, eps = (code.splat(rows.step.real(name), tile.lanes) for name in ("momentum", "eps"))
        first, totals = rows.array("feats"), _totals(code, tile, rows)
        with code.loop(0, rows.channels, tile.lanes) as at:
            if kept:
                mean, variance = (_wide(code, rows.read(place(at))) for place in (mean_, var_))
            else:
                shift, square = (code.fdiv(total, _count(code, rows)) for total in totals(at))
                variance = _at_least_zero(code, code.fsub(square, code.fmul(shift, shift)))
                mean = code.fadd(shift, _wide(code, rows.read(first(LONG(0), at))))
                fewer = code.fsub(_count(code, rows), _ones(tile))
                unbiased = code.fmul(variance, code.fdiv(_count(code, rows), fewer))
                for place, now in ((mean_, mean), (var_, unbiased)):
                    before = _wide(code, rows.read(place(at)))
                    after = code.fadd(before, code.fmul(momentum, code.fsub(now, before)))
                    code.write(_narrow(code, after), place(at))
            inverse = code.fdiv(_ones(tile), code.square_root(code.fadd(variance, eps)))
            scale = code.fmul(inverse, _wide(code, rows.read(weight(at))))
            shift = code.fsub(_wide(code, rows.read(bias(at))), code.fmul(mean, scale))
            for name, value in zip(TERMS, (scale, shift, mean, inverse), strict=False):
                code.write(_narrow(code, value), rows.term(name)(at))

    return step_function(f"norm_statistics_{tile.lanes}_{kept}", write)


@cache
def _gradient_statistics(tile: Tile, kept: bool) -> int:
    """Gradients of weight and bias; slope and offset of the features' gradient."""

    def write(code: Code) -> None:
        rows = _Rows(code, tile)
        totals = _totals(code, tile, rows)
        with code.loop(0, rows.channels, tile.lanes) as at:
            by_bias, products = totals(at)
            known = (_wide(code, rows.read(rows.term(name)(at))) for name in ("scale", "mean", "inverse"))
            scale, mean, inverse = known
            by_weight = code.fmul(products, inverse)
            for name, value in (("by_weight", by_weight), ("by_bias", by_bias)):
                code.write(_narrow(code, value), rows.per_channel(name)(at))
            slope = offset = ir.Constant(scale.type, [0.0] * tile.lanes)
            if not kept:
                share = code.fdiv(code.fsub(slope, scale), _count(code, rows))
                slope = code.fmul(share, code.fmul(inverse, by_weight))
                offset = code.fsub(code.fmul(share, by_bias), code.fmul(slope, mean))
            for name, value in (("slope", slope), ("offset", offset)):
                code.write(_narrow(code, value), rows.term(name)(at))

    return step_function(f"norm_gradient_statistics_{tile.lanes}_{kept}", write)


def _totals(code: Code, tile: Tile, rows: _Rows) -> Callable[[ir.Value], list[ir.Value]]:
    """The two sums over all parts, in double precision."""
    parts = rows.step.array("parts", FLOAT)
    count = code.sdiv(code.add(rows.count, LONG(PART - 1)), LONG(PART))
    zero = ir.Constant(ir.VectorType(DOUBLE, tile.lanes), [0.0] * tile.lanes)

    def totals(at: ir.Value) -> list[ir.Value]:
        sums = [code.variable(zero.type, zero) for _ in range(2)]
        with code.loop(0, count) as part:
            for number, total in enumerate(sums):
                row = code.add(code.mul(part, LONG(2)), LONG(number))
                value = _wide(code, rows.read(code.at(parts, (row, rows.channels), at)))
                code.store(code.fadd(code.load(total), value), total)
        return [code.load(total) for total in sums]

    return totals


@cache
def _result(tile: Tile, beside: str, relu: bool, half: bool) -> int:
    """``feats * scale + shift + beside``, then ReLU. half: rounded, too."""

    def write(code: Code) -> None:
        rows = _Rows(code, tile)
        feats, out, added, rounded = (
            rows.array("feats"),
            rows.array("out"),
            rows.array("beside"),
            rows.array("half", HALF),
        )
        scale, shift = rows.term("scale"), rows.term("shift")
        its_scale, its_shift = (rows.term(name, "beside_terms") for name in ("scale", "shift"))
        with code.loop(rows.begin, rows.end) as row, code.loop(0, rows.channels, tile.lanes) as at:
            value = code.multiply_add(rows.read(feats(row, at)), rows.read(scale(at)), rows.read(shift(at)))
            if beside != "none":
                other = rows.read(added(row, at))
                if beside == "normalised":
                    other = code.multiply_add(other, rows.read(its_scale(at)), rows.read(its_shift(at)))
                value = code.fadd(value, other)
            if relu:
                zero = _constant(tile, 0.0)
                value = code.select(code.fcmp_ordered("<=", value, zero), zero, value)
            code.write(value, out(row, at))
            if half:
                code.write(code.narrowed(value), rounded(row, at))

    return step_function(f"norm_result_{tile.lanes}_{beside}_{relu}_{half}", write)


@cache
def _gradient(tile: Tile, relu: bool, passed: str, half: bool) -> int:
    """``scale * grad + slope * feats + offset``, and the gradient of what was added. half: rounded."""

    def write(code: Code) -> None:
        rows = _Rows(code, tile)
        feats, by_feats, beside, before = (
            rows.array("feats"),
            rows.array("half", HALF) if half else rows.array("by_feats"),
            rows.array("passed"),
            _passed(code, rows, relu),
        )
        scale, slope, offset = (rows.term(name) for name in ("scale", "slope", "offset"))
        with code.loop(rows.begin, rows.end) as row, code.loop(0, rows.channels, tile.lanes) as at:
            grad = before(row, at)
            rest = code.multiply_add(rows.read(feats(row, at)), rows.read(slope(at)), rows.read(offset(at)))
            value = code.multiply_add(grad, rows.read(scale(at)), rest)
            code.write(code.narrowed(value) if half else value, by_feats(row, at))
            if passed == "added":
                grad = code.fadd(grad, rows.read(beside(row, at)))
            if passed != "none":
                code.write(grad, beside(row, at))

    return step_function(f"norm_gradient_{tile.lanes}_{relu}_{passed}_{half}", write)


def _constant(tile: Tile, value: float) -> ir.Value:
    return ir.Constant(ir.VectorType(FLOAT, tile.lanes), [value] * tile.lanes)


def _ones(tile: Tile) -> ir.Value:
    return ir.Constant(ir.VectorType(DOUBLE, tile.lanes), [1.0] * tile.lanes)


def _count(code: Code, rows: _Rows) -> ir.Value:
    """The number of rows in double precision, in all lanes."""
    return code.splat(code.sitofp(rows.count, DOUBLE), rows.lanes)


def _wide(code: Code, floats: ir.Value) -> ir.Value:
    return code.fpext(floats, ir.VectorType(DOUBLE, floats.type.count))


def _narrow(code: Code, doubles: ir.Value) -> ir.Value:
    return code.fptrunc(doubles, ir.VectorType(FLOAT, doubles.type.count))


def _at_least_zero(code: Code, value: ir.Value) -> ir.Value:
    zero = ir.Constant(value.type, [0.0] * value.type.count)
    return code.select(code.fcmp_ordered("<", value, zero), zero, value)
