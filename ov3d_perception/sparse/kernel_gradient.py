"""The gradient of a convolution's kernel: of each offset's matrix, the sum of its pairs' outer products.

One thread makes a matrix, so that sums are the same to the bit from run to run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Float32
from llvmlite import ir
from torch import Tensor

from ov3d_perception.llvm_code import FLOAT, HALF, LONG, WORD, Code
from ov3d_perception.sparse.kernel_map import KernelMap
from ov3d_perception.sparse.kernels import Form, Tile, add_to, dot, fetch_rows, form_of, side_by_side, tile_for
from ov3d_perception.sparse.steps import Record, run_steps, step_function

_PAIRS = 64
"""Pairs whose rows fit the inner cache while they are added to the matrix of one offset."""


class KernelGradientStep(NamedTuple):
    """A record of :mod:`~ov3d_perception.sparse.steps`; a block is a segment of the kernel map.

    Addresses are of the first element; ``wide`` numbers are elements from row to row.
    """

    function: int
    blocks: int
    starts: int  # of the segments in the pairs, and the end
    slots: int  # kernel row of each segment
    in_rows: int
    out_rows: int
    feats: int
    feats_wide: int
    channels: int
    grads: int
    grads_wide: int
    columns: int
    sums: int  # float32, [kernel rows, channels, columns]; overwritten


def kernel_gradient_step(
    kernel_map: KernelMap,
    feats: tuple[int, int, int],
    grads: tuple[int, int, int],
    dtype: torch.dtype,
    sums: int,
) -> KernelGradientStep:
    """The record. feats, grads: address, elements from row to row, channels, of this type; sums: address."""
    arrays = (kernel_map.starts, kernel_map.kernel_rows, kernel_map.in_rows, kernel_map.out_rows)
    function = _function(tile_for(grads[2]), form_of(dtype))
    places = (*(array.data_ptr() for array in arrays), *feats, *grads, sums)
    return KernelGradientStep._make((function, len(kernel_map.sizes), *places))


def kernel_gradient(
    feats: Float[Tensor, "n i"], grads: Float[Tensor, "m o"], kernel_map: KernelMap
) -> Float32[Tensor, "k i o"]:
    """``sums[slots[s]] = feats[p].T @ grads[q]`` over the pairs (p, q) of each segment s; both contiguous, of one type
    for which there are kernels."""
    assert feats.is_contiguous() and grads.is_contiguous()
    channels, columns = feats.shape[1], grads.shape[1]
    sums = torch.empty(len(kernel_map.sizes), channels, columns)
    left, right = ((rows.data_ptr(), rows.shape[1], rows.shape[1]) for rows in (feats, grads))
    run_steps([kernel_gradient_step(kernel_map, left, right, feats.dtype, sums.data_ptr())], 0)
    return sums


@cache
def _function(tile: Tile, form: Form) -> int:
    name = f"kernel_gradient_{tile.rows}_{tile.vectors}_{tile.lanes}_{form.kind}_{form.step}"
    return step_function(name, lambda code: _write(code, tile, form))


class _Sides:
    """Features and gradients of a pair."""

    def __init__(self, code: Code, step: Record, form: Form) -> None:
        self.feats, self.feats_wide = step.array("feats", form.kind), step.number("feats_wide")
        self.grads, self.grads_wide = step.array("grads", form.kind), step.number("grads_wide")
        self.in_rows, self.out_rows = (step.array(name, WORD) for name in ("in_rows", "out_rows"))
        self.channels, self.columns = (step.number(name) for name in ("channels", "columns"))
        self._code = code

    def row(self, pair: ir.Value, channel: ir.Value) -> ir.Value:
        """Address of the features from a channel on."""
        return self._code.at(self.feats, (self._code.long(self._code.at(self.in_rows, pair)), self.feats_wide), channel)

    def gradient(self, pair: ir.Value, column: ir.Value) -> ir.Value:
        """Address of the gradient from a column on."""
        place = self._code.long(self._code.at(self.out_rows, pair))
        return self._code.at(self.grads, (place, self.grads_wide), column)

    def fetch(self, span: tuple[ir.Value, ir.Value]) -> None:
        """Prefetch both of these pairs."""
        fetch_rows(self._code, self.feats, self.in_rows, span, self.channels, self.feats_wide)
        fetch_rows(self._code, self.grads, self.out_rows, span, self.columns, self.grads_wide)


def _write(code: Code, tile: Tile, form: Form) -> None:
    """Zero, then part after part of the pairs, each tile of the matrix: sum over pairs, then add. Input channels that
    do not fill a tile are handled one by one."""
    record, segment, _ = code.fn.args
    step = Record(code, record, KernelGradientStep._fields)
    sides = _Sides(code, step, form)
    whole = code.mul(code.sdiv(sides.channels, LONG(tile.rows)), LONG(tile.rows))
    size = code.mul(sides.channels, sides.columns)
    sums = code.at(step.array("sums", FLOAT), (code.long(code.at(step.array("slots", WORD), segment)), size))
    with code.loop(0, size, 4) as at:
        code.write(ir.Constant(ir.VectorType(FLOAT, 4), [0.0] * 4), code.at(sums, at))
    starts = step.array("starts", WORD)
    first, last = (code.long(code.at(starts, at)) for at in (segment, code.add(segment, LONG(1))))
    with code.loop(first, last, _PAIRS) as begin:
        end = code.least(code.add(begin, LONG(_PAIRS)), last)
        sides.fetch((end, code.least(code.add(end, LONG(_PAIRS)), last)))
        for low, high, height in ((LONG(0), whole, tile.rows), (whole, sides.channels, 1)):
            with code.loop(low, high, height) as channel, code.loop(0, sides.columns, tile.columns) as column:
                places = [code.at(sums, (code.add(channel, LONG(n)), sides.columns), column) for n in range(height)]
                added = _sum_over_pairs(code, sides, tile._replace(rows=height), form, (begin, end), (channel, column))
                for place, vectors in zip(places, added, strict=True):
                    add_to(code, place, vectors)


def _sum_over_pairs(
    code: Code, sides: _Sides, tile: Tile, form: Form, span: tuple[ir.Value, ir.Value], at: tuple[ir.Value, ir.Value]
) -> list[list[ir.Value]]:
    """The tile. Where bfloat16 is multiplied two at a time, those are of two pairs; an odd one is left, and widened."""
    channel, column = at
    floats = ir.VectorType(FLOAT, tile.lanes)
    zero = ir.Constant(floats, [0.0] * tile.lanes)
    sums = [[code.variable(floats, zero) for _ in range(tile.vectors)] for _ in range(tile.rows)]

    def of(pair: ir.Value) -> tuple[ir.Value, list[ir.Value]]:
        """Where the pair's input channels are, and its row of gradients."""
        row, other = sides.row(pair, channel), sides.gradient(pair, column)
        return row, [code.read(code.at(other, n * tile.lanes), tile.lanes) for n in range(tile.vectors)]

    def add(left: list[ir.Value], right: list[ir.Value], product: Callable[..., ir.Value]) -> None:
        for value, vectors in zip(left, sums, strict=True):
            spread = code.splat(value, tile.lanes)
            for vector, place in zip(right, vectors, strict=True):
                code.store(product(spread, vector, code.load(place)), place)

    begin, end = span
    if form.step == 2:
        even = code.sub(end, code.and_(code.sub(end, begin), LONG(1)))
        with code.loop(begin, even, 2) as pair:
            (row, right), (next_row, next_right) = (of(code.add(pair, LONG(n))) for n in range(2))
            left = side_by_side(code, *(code.read(place, tile.rows) for place in (row, next_row)))
            both = [side_by_side(code, *vectors) for vectors in zip(right, next_right, strict=True)]
            add([code.extract_element(left, WORD(n)) for n in range(tile.rows)], both, partial(dot, code))
        begin = even
    with code.loop(begin, end) as pair:
        row, right = of(pair)
        values = [code.load(code.at(row, number)) for number in range(tile.rows)]
        if form.kind is HALF:
            values, right = ([code.widened(value) for value in side] for side in (values, right))
        add(values, right, code.multiply_add)
    return [[code.load(place) for place in vectors] for vectors in sums]
