"""Parts of a layer's compiled code (:mod:`~ov3d_perception.sparse.layer_code`), and the kernel's gradient.

Loops keep a tile of results in the vector registers, eight rows by up to three vectors, while they go through the
kernel map. They read rows in place and add results in place, so that neither gathered rows nor products are stored.
That makes them faster than a matrix library with the same number of multiplications.

Features are float32 or bfloat16, sums are float32. Where the processor multiplies pairs of bfloat16, two input
channels are multiplied at a time; else they are converted to float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Float32, Int32
from llvmlite import ir
from torch import Tensor

from ov3d_perception.llvm_code import FLOAT, HALF, LONG, WORD, Code, compiled, host

_PAIRS = 64
"""Pairs whose rows fit the inner cache while they are added to the kernel's gradient of one offset."""


class Tile(NamedTuple):
    """Results in registers: rows x vectors x lanes (floats a vector)."""

    rows: int
    vectors: int
    lanes: int

    @property
    def columns(self) -> int:
        """Number of channels."""
        return self.vectors * self.lanes


class Form(NamedTuple):
    """How features are multiplied. kind: element type; step: input channels at a time."""

    kind: ir.Type
    step: int


def fits(feats: Tensor, channels: int) -> bool:
    """Whether there are kernels from ``feats`` to this number of channels."""
    return feats.device.type == "cpu" and feats.dtype in (torch.float32, torch.bfloat16) and channels % 4 == 0


@cache
def tile_for(channels: int) -> Tile:
    """The largest tile that divides a row of this number of channels."""
    lanes, registers, _ = host()
    lanes = next(n for n in (lanes, 8, 4) if n <= lanes and channels % n == 0)
    vectors = next(n for n in (3, 2, 1) if channels % (n * lanes) == 0)
    return Tile(8 if registers >= 32 else 12 // vectors, vectors, lanes)


def add_outer_products(
    sums: Float32[Tensor, "k i o"],
    feats: Float[Tensor, "n i"],
    grads: Float[Tensor, "m o"],
    rows: tuple[Int32[Tensor, " p"], Int32[Tensor, " p"]],
    bounds: tuple[Int32[Tensor, " s"], Int32[Tensor, " s"]],
    slots: Int32[Tensor, " s"],
) -> None:
    """``sums[slots[s]] += feats[p].T @ grads[q]`` over the pairs (p, q) of each segment s: the kernel's gradient.

    rows: p and q of all pairs; bounds: where each segment begins and ends in them. All contiguous.
    """
    channels, columns = sums.shape[1:]
    _add_outer_products(tile_for(columns), form_of(feats.dtype))(
        *_addresses(sums, feats, grads, *rows, *bounds, slots), len(slots), channels, columns
    )


def _addresses(*tensors: Tensor) -> list[int]:
    assert all(tensor.is_contiguous() for tensor in tensors)
    return [tensor.data_ptr() for tensor in tensors]


def form_of(dtype: torch.dtype) -> Form:
    """How features of this type with an even number of channels are multiplied."""
    if dtype == torch.float32:
        return Form(FLOAT, 1)
    return Form(HALF, 2 if host().dot else 1)


def fetch_rows(
    code: Code,
    base: ir.Value,
    rows: ir.Value,
    span: tuple[ir.Value, ir.Value],
    width: ir.Value,
    wide: ir.Value | None = None,
) -> None:
    """Prefetch the rows of these pairs: large clouds do not fit the cache. wide: elements from row to row, if more."""
    line = 16 if base.type.pointee is FLOAT else 32
    with code.loop(*span) as pair, code.loop(0, width, line) as at:
        code.prefetch(code.at(base, (code.long(code.at(rows, pair)), wide or width), at))


def sum_over_channels(
    code: Code, inputs: list[ir.Value], panel: ir.Value, channels: ir.Value, tile: Tile, form: Form
) -> list[list[ir.Value]]:
    """The tile: each input row times the panel."""
    floats = ir.VectorType(FLOAT, tile.lanes)
    zero = ir.Constant(floats, [0.0] * tile.lanes)
    sums = [[code.variable(floats, zero) for _ in range(tile.vectors)] for _ in inputs]
    with code.loop(0, channels, form.step) as channel:
        weights = code.at(panel, (code.sdiv(channel, LONG(form.step)), LONG(tile.columns)))
        matrix = [code.read(code.at(weights, n * tile.lanes), tile.lanes) for n in range(tile.vectors)]
        for row, vectors in zip(inputs, sums, strict=True):
            place = code.at(row, channel)
            if form.step == 2:
                value = code.load(code.bitcast(place, WORD.as_pointer()), align=2)
            else:
                value = code.load(place) if form.kind is FLOAT else code.widened(code.load(place))
            spread = code.splat(value, tile.lanes)
            for weight, place in zip(matrix, vectors, strict=True):
                known = code.load(place)
                code.store(
                    _dot(code, spread, weight, known) if form.step == 2 else code.multiply_add(spread, weight, known),
                    place,
                )
    return [[code.load(place) for place in vectors] for vectors in sums]


class _BFloat(ir.Type):
    """LLVM's bfloat type, which llvmlite lacks."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash("bfloat")


def _dot(code: Code, a: ir.Value, b: ir.Value, known: ir.Value) -> ir.Value:
    """``known + a0 * b0 + a1 * b1`` of pairs of bfloat16."""
    lanes = known.type.count
    pairs = ir.VectorType(_BFloat(), 2 * lanes)
    name = f"llvm.x86.avx512bf16.dpbf16ps.{32 * lanes}"
    return code.intrinsic(name, known, code.bitcast(a, pairs), code.bitcast(b, pairs))


def add_to(code: Code, place: ir.Value, vectors: list[ir.Value]) -> None:
    """Add vectors to those at an address."""
    for number, vector in enumerate(vectors):
        lanes = vector.type.count
        there = code.at(place, number * lanes)
        code.write(code.fadd(code.read(there, lanes), vector), there)


@cache
def _add_outer_products(tile: Tile, form: Form) -> Callable[..., None]:
    kinds = [FLOAT, form.kind, form.kind, *[WORD] * 5, *[LONG] * 3]
    name = f"add_outer_products_{tile.rows}_{tile.vectors}_{tile.lanes}_{form.kind}_{form.step}"
    return compiled(name, kinds, lambda code: _write_outer_products(code, tile, form))


def _write_outer_products(code: Code, tile: Tile, form: Form) -> None:
    """For each segment, part after part of its pairs, each tile of its matrix: sum over pairs, then add. Input channels
    that do not fill a tile are handled one by one."""
    kernel, _, _, _, _, begins, ends, slots, segments, channels, columns = code.fn.args
    whole = code.mul(code.sdiv(channels, LONG(tile.rows)), LONG(tile.rows))
    with code.loop(0, segments) as segment:
        sums = code.at(kernel, (code.long(code.at(slots, segment)), code.mul(channels, columns)))
        first, last = (code.long(code.at(side, segment)) for side in (begins, ends))
        with code.loop(first, last, _PAIRS) as begin:
            _add_part(code, tile, form, sums, whole, (begin, code.least(code.add(begin, LONG(_PAIRS)), last), last))


def _add_part(
    code: Code, tile: Tile, form: Form, sums: ir.Value, whole: ir.Value, span: tuple[ir.Value, ir.Value, ir.Value]
) -> None:
    """The pairs of the span's first two; those up to its last come next."""
    begin, end, last = span
    _, feats, grads, in_rows, out_rows, _, _, _, _, channels, columns = code.fn.args
    ahead = end, code.least(code.add(end, LONG(_PAIRS)), last)
    fetch_rows(code, feats, in_rows, ahead, channels)
    fetch_rows(code, grads, out_rows, ahead, columns)
    for low, high, height in ((LONG(0), whole, tile.rows), (whole, channels, 1)):
        with code.loop(low, high, height) as channel, code.loop(0, columns, tile.columns) as column:
            places = [code.at(sums, (code.add(channel, LONG(n)), columns), column) for n in range(height)]
            added = _sum_over_pairs(code, tile._replace(rows=height), form, (begin, end), channel, column)
            for place, vectors in zip(places, added, strict=True):
                add_to(code, place, vectors)


def _sum_over_pairs(
    code: Code, tile: Tile, form: Form, span: tuple[ir.Value, ir.Value], channel: ir.Value, column: ir.Value
) -> list[list[ir.Value]]:
    """The tile. Where bfloat16 is multiplied two at a time, those are of two pairs; an odd one is left, and widened."""
    _, feats, grads, in_rows, out_rows, _, _, _, _, channels, columns = code.fn.args
    floats = ir.VectorType(FLOAT, tile.lanes)
    zero = ir.Constant(floats, [0.0] * tile.lanes)
    sums = [[code.variable(floats, zero) for _ in range(tile.vectors)] for _ in range(tile.rows)]

    def sides(pair: ir.Value) -> tuple[ir.Value, list[ir.Value]]:
        """Where the pair's input channels are, and its row of gradients."""
        row = code.at(feats, (code.long(code.at(in_rows, pair)), channels), channel)
        other = code.at(grads, (code.long(code.at(out_rows, pair)), columns), column)
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
            (row, right), (next_row, next_right) = (sides(code.add(pair, LONG(n))) for n in range(2))
            left = _side_by_side(code, *(code.read(place, tile.rows) for place in (row, next_row)))
            both = [_side_by_side(code, *vectors) for vectors in zip(right, next_right, strict=True)]
            add([code.extract_element(left, WORD(n)) for n in range(tile.rows)], both, partial(_dot, code))
        begin = even
    with code.loop(begin, end) as pair:
        row, right = sides(pair)
        values = [code.load(code.at(row, number)) for number in range(tile.rows)]
        if form.kind is HALF:
            values, right = ([code.widened(value) for value in side] for side in (values, right))
        add(values, right, code.multiply_add)
    return [[code.load(place) for place in vectors] for vectors in sums]


def _side_by_side(code: Code, low: ir.Value, high: ir.Value) -> ir.Value:
    """Two vectors of 16 bits as one of 32, whose lower halves are the first's."""
    words = ir.VectorType(WORD, low.type.count)
    below, above = (code.zext(half, words) for half in (low, high))
    return code.or_(below, code.shl(above, ir.Constant(words, [16] * words.count)))
