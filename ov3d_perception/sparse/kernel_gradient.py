"""The gradient of a convolution's kernel: of each offset's matrix, the sum of its pairs' outer products.

One thread makes a matrix, so that sums are the same to the bit from run to run.
"""

from __future__ import annotations

from functools import cache
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

    @property
    def room(self) -> int:
        """Floats that a block needs: rows of bfloat16, two at a time."""
        return _PAIRS // 2 * (self.channels + self.columns)


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
    step = kernel_gradient_step(kernel_map, left, right, feats.dtype, sums.data_ptr())
    run_steps([step], step.room)
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
    record, segment, room = code.fn.args
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
        twos = _Twos(code, sides, tile.lanes, (begin, end), room) if form.step == 2 else None
        for low, high, height in ((LONG(0), whole, tile.rows), (whole, sides.channels, 1)):
            with code.loop(low, high, height) as channel, code.loop(0, sides.columns, tile.columns) as column:
                places = [code.at(sums, (code.add(channel, LONG(n)), sides.columns), column) for n in range(height)]
                part, at = tile._replace(rows=height), (channel, column)
                added = twos.sum(part, at) if twos else _sum_over_pairs(code, sides, part, form, (begin, end), at)
                for place, vectors in zip(places, added, strict=True):
                    add_to(code, place, vectors)


class _Twos:
    """Pairs of bfloat16 rows, two at a time, laid out once for all tiles: a channel of both in one word; an odd one
    beside zeros."""

    def __init__(self, code: Code, sides: _Sides, lanes: int, span: tuple[ir.Value, ir.Value], room: ir.Value) -> None:
        begin, end = span
        self._code, self._sides = code, sides
        self._count = code.sdiv(code.add(code.sub(end, begin), LONG(1)), LONG(2))
        self._left = code.bitcast(room, WORD.as_pointer())
        self._right = code.at(self._left, (LONG(_PAIRS // 2), sides.channels))
        with code.loop(0, self._count) as two:
            low = code.add(begin, code.mul(two, LONG(2)))
            there = code.icmp_signed("<", code.add(low, LONG(1)), end)
            high = code.select(there, code.add(low, LONG(1)), low)
            for row, width, base in (
                (sides.row, sides.channels, self._left),
                (sides.gradient, sides.columns, self._right),
            ):
                rows = [row(pair, LONG(0)) for pair in (low, high)]
                vectors = code.mul(code.sdiv(width, LONG(lanes)), LONG(lanes))
                for first, last, count in ((LONG(0), vectors, lanes), (vectors, width, 1)):
                    with code.loop(first, last, count) as at:
                        own, other = (code.read(code.at(place, at), count) for place in rows)
                        other = code.select(there, other, ir.Constant(other.type, None))
                        code.write(side_by_side(code, own, other), code.at(base, (two, width), at))

    def sum(self, tile: Tile, at: tuple[ir.Value, ir.Value]) -> list[list[ir.Value]]:
        """The tile of these pairs."""
        code, (channel, column) = self._code, at
        sums = _zeros(code, tile)
        with code.loop(0, self._count) as two:
            left = code.at(self._left, (two, self._sides.channels), channel)
            right = code.at(self._right, (two, self._sides.columns), column)
            vectors = [code.read(code.at(right, n * tile.lanes), tile.lanes) for n in range(tile.vectors)]
            for number, places in enumerate(sums):
                spread = code.splat(code.load(code.at(left, number)), tile.lanes)
                for vector, place in zip(vectors, places, strict=True):
                    code.store(dot(code, spread, vector, code.load(place)), place)
        return [[code.load(place) for place in places] for places in sums]


def _sum_over_pairs(
    code: Code, sides: _Sides, tile: Tile, form: Form, span: tuple[ir.Value, ir.Value], at: tuple[ir.Value, ir.Value]
) -> list[list[ir.Value]]:
    """The tile, one pair at a time."""
    channel, column = at
    sums = _zeros(code, tile)
    with code.loop(*span) as pair:
        row, other = sides.row(pair, channel), sides.gradient(pair, column)
        right = [code.read(code.at(other, n * tile.lanes), tile.lanes) for n in range(tile.vectors)]
        values = [code.load(code.at(row, number)) for number in range(tile.rows)]
        if form.kind is HALF:
            values, right = ([code.widened(value) for value in side] for side in (values, right))
        for value, places in zip(values, sums, strict=True):
            spread = code.splat(value, tile.lanes)
            for vector, place in zip(right, places, strict=True):
                code.store(code.multiply_add(spread, vector, code.load(place)), place)
    return [[code.load(place) for place in places] for places in sums]


def _zeros(code: Code, tile: Tile) -> list[list[ir.Value]]:
    floats = ir.VectorType(FLOAT, tile.lanes)
    zero = ir.Constant(floats, None)
    return [[code.variable(floats, zero) for _ in range(tile.vectors)] for _ in range(tile.rows)]
