"""A layer as compiled code: a block of output rows at a time.

A layer is a record of addresses and sizes (:class:`Step`, one of :mod:`~ov3d_perception.sparse.steps`). Its function
computes a block of the output rows: sums that begin with the bias and the shortcut, the products of every kernel offset
and of the shortcut's own matrix, ReLU, and the result in the features' type or another. Of bytes, sums begin with zero;
they are integers, which a factor for each column makes floats of before the rest is added.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from llvmlite import ir
from torch import Tensor

from ov3d_perception.llvm_code import BYTE, FLOAT, LONG, WORD, Code
from ov3d_perception.sparse.blocks import Cut
from ov3d_perception.sparse.kernel_map import KernelMap
from ov3d_perception.sparse.kernels import (
    Form,
    Tile,
    add_to,
    fetch_rows,
    form_of,
    sum_over_channels,
    tile_for,
)
from ov3d_perception.sparse.steps import Record, step_function

_LARGE = 1 << 20
"""Bytes of features that do not fit a core's cache: their rows are fetched ahead."""


class Step(NamedTuple):
    """A layer on a scan. Addresses are of the first element; ``wide`` numbers are elements from row to row."""

    function: int
    blocks: int
    rows: int  # output rows at which blocks begin, and the end
    edges: int  # for each of those, where it is in each segment of the pairs
    segments: int
    slots: int  # kernel row of each segment
    in_rows: int
    out_rows: int
    feats: int
    feats_wide: int
    channels: int
    kernel: int
    bias: int
    out: int
    out_wide: int
    columns: int
    ahead: int  # 1: fetch rows before they are needed
    shortcut: int = 0
    shortcut_wide: int = 0
    shortcut_channels: int = 0
    matrix: int = 0  # of the shortcut
    scale: int = 0  # of bytes: factors of the sums,
    shortcut_scale: int = 0  # and of the shortcut or its products


def layer(
    columns: int,
    dtype: torch.dtype,
    shortcut: str = "none",
    relu: bool = False,
    out: torch.dtype | None = None,
) -> int:
    """Address of the function of a layer with so many output channels; shortcut: none, same or projected; out: type of
    the result, that of the features by default. The same shortcut is of the result's type, or bytes as the features."""
    tile, form = tile_for(columns), form_of(dtype)
    return _layer(tile, form, shortcut, relu, form_of(out or dtype).kind)


@cache
def _layer(tile: Tile, form: Form, shortcut: str, relu: bool, out: ir.Type) -> int:
    name = f"layer_{tile.rows}_{tile.vectors}_{tile.lanes}_{form.kind}_{form.step}_{shortcut}_{relu}_{out}"
    return step_function(name, lambda code: _write_layer(code, tile, form, shortcut, relu, out))


def step_of(
    function: int,
    kernel_map: KernelMap,
    cut: Cut,
    feats: tuple[int, int, int],
    kernel: int,
    bias: Tensor,
    **rest: int,
) -> Step:
    """The record of a layer without a shortcut. feats: address, elements from row to row, channels; kernel: address of
    the packed one."""
    place, wide, channels = feats
    arrays = (cut.rows, cut.edges, kernel_map.kernel_rows, kernel_map.in_rows, kernel_map.out_rows, bias)
    rows, edges, slots, in_rows, out_rows, start = (array.data_ptr() for array in arrays)
    return Step(
        function=function,
        blocks=len(cut.rows) - 1,
        rows=rows,
        edges=edges,
        segments=len(kernel_map.sizes),
        slots=slots,
        in_rows=in_rows,
        out_rows=out_rows,
        feats=place,
        feats_wide=wide,
        channels=channels,
        kernel=kernel,
        bias=start,
        ahead=int(4 * kernel_map.n_in * wide > _LARGE),
        **rest,
    )


def _write_layer(code: Code, tile: Tile, form: Form, shortcut: str, relu: bool, out: ir.Type) -> None:
    record, block, sums = code.fn.args
    step = Record(code, record, Step._fields)
    rows, columns = step.array("rows", WORD), step.number("columns")
    first, end = (code.long(code.at(rows, at)) for at in (block, code.add(block, LONG(1))))
    span, lanes = (first, end), tile.lanes
    bias, scale, beside_scale = (step.array(name, FLOAT) for name in ("bias", "scale", "shortcut_scale"))
    beside, beside_wide = step.array("shortcut", BYTE if form.kind is BYTE else out), step.number("shortcut_wide")

    def begun(row: ir.Value, at: ir.Value) -> ir.Value:
        """Bias, and the shortcut's row."""
        value = code.read(code.at(bias, at), lanes)
        if shortcut != "same":
            return value
        own = code.as_floats(code.read(code.at(beside, (row, beside_wide), at), lanes))
        if form.kind is not BYTE:
            return code.fadd(value, own)
        return code.multiply_add(own, code.read(code.at(beside_scale, at), lanes), value)

    def scaled(row: ir.Value, at: ir.Value) -> ir.Value:
        """Of integer sums, the floats."""
        total = code.read(code.bitcast(code.at(sums, (code.sub(row, first), columns), at), WORD.as_pointer()), lanes)
        factor = code.read(code.at(scale, at), lanes)
        return code.multiply_add(code.sitofp(total, factor.type), factor, begun(row, at))

    def summed(row: ir.Value, at: ir.Value) -> ir.Value:
        return code.read(code.at(sums, (code.sub(row, first), columns), at), lanes)

    def nothing(row: ir.Value, at: ir.Value) -> ir.Value:
        return ir.Constant(ir.VectorType(WORD, lanes), None)

    def fill(value: Callable[[ir.Value, ir.Value], ir.Value]) -> None:
        with code.loop(*span) as row, code.loop(0, columns, lanes) as at:
            found = value(row, at)
            place = code.at(sums, (code.sub(row, first), columns), at)
            code.write(found, code.bitcast(place, found.type.element.as_pointer()))

    whole = form.kind is BYTE
    fill(nothing if whole else begun)
    _add_pairs(code, step, block, first, sums, tile, form)
    if shortcut == "projected":
        if whole:
            fill(scaled)
        _add_projected(code, step, span, sums, tile, form)
    _finish(code, step, span, scaled if whole and shortcut != "projected" else summed, tile, out, relu)


def _add_projected(
    code: Code, step: Record, span: tuple[ir.Value, ir.Value], sums: ir.Value, tile: Tile, form: Form
) -> None:
    """The products of the shortcut's rows."""
    feats, wide = step.array("shortcut", form.kind), step.number("shortcut_wide")
    columns, scale = step.number("columns"), step.array("shortcut_scale", FLOAT)

    def own(place: ir.Value) -> ir.Value:
        return code.at(feats, (place, wide))

    def target(place: ir.Value) -> ir.Value:
        return code.at(sums, (code.sub(place, span[0]), columns))

    def floats(total: ir.Value, at: ir.Value) -> ir.Value:
        factor = code.read(code.at(scale, at), tile.lanes)
        return code.fmul(code.sitofp(total, factor.type), factor)

    matrix, channels = step.array("matrix", FLOAT), step.number("shortcut_channels")
    _add_tiles(
        code, span, (own, target), matrix, channels, columns, tile, form, scaled=floats if form.kind is BYTE else None
    )


def _add_pairs(
    code: Code, step: Record, block: ir.Value, first: ir.Value, sums: ir.Value, tile: Tile, form: Form
) -> None:
    """The products of each segment's pairs in this block."""
    segments, columns, channels = (step.number(name) for name in ("segments", "columns", "channels"))
    feats, wide = step.array("feats", form.kind), step.number("feats_wide")
    in_rows, out_rows = (step.array(name, WORD) for name in ("in_rows", "out_rows"))
    edges, slots, kernel = step.array("edges", WORD), step.array("slots", WORD), step.array("kernel", FLOAT)
    size = code.mul(code.sdiv(channels, LONG(form.step)), columns)
    ahead = step.number("ahead")

    def source(place: ir.Value) -> ir.Value:
        return code.at(feats, (code.long(code.at(in_rows, place)), wide))

    def target(place: ir.Value) -> ir.Value:
        return code.at(sums, (code.sub(code.long(code.at(out_rows, place)), first), columns))

    def fetch(begin: ir.Value, end: ir.Value) -> None:
        with code.if_then(code.icmp_signed("!=", ahead, LONG(0))):
            fetch_rows(code, feats, in_rows, (begin, end), channels, wide)

    with code.loop(0, segments) as segment:
        bounds = (code.at(edges, (at, segments), segment) for at in (block, code.add(block, LONG(1))))
        begin, end = (code.long(place) for place in bounds)
        matrix = code.at(kernel, (code.long(code.at(slots, segment)), size))
        _add_tiles(code, (begin, end), (source, target), matrix, channels, columns, tile, form, fetch)


def _add_tiles(
    code: Code,
    span: tuple[ir.Value, ir.Value],
    ways: tuple[Callable[[ir.Value], ir.Value], Callable[[ir.Value], ir.Value]],
    matrix: ir.Value,
    channels: ir.Value,
    columns: ir.Value,
    tile: Tile,
    form: Form,
    fetch: Callable[[ir.Value, ir.Value], None] | None = None,
    scaled: Callable[[ir.Value, ir.Value], ir.Value] | None = None,
) -> None:
    """For each panel of the matrix and each tile's worth of the span: rows times panel, added to where they go."""
    source, target = ways
    begin, end = span
    panel_size = code.mul(code.sdiv(channels, LONG(form.step)), LONG(tile.columns))
    last = code.sub(end, LONG(1))
    with code.loop(0, columns, tile.columns) as column, code.loop(begin, end, tile.rows) as pair:
        panel = code.at(matrix, (code.sdiv(column, LONG(tile.columns)), panel_size))
        if fetch is not None:
            with code.if_then(code.icmp_signed("==", column, LONG(0))):
                ahead = code.add(pair, LONG(tile.rows))
                fetch(ahead, code.least(code.add(ahead, LONG(tile.rows)), end))
        inputs = [source(code.least(code.add(pair, LONG(row)), last)) for row in range(tile.rows)]
        for row, vectors in enumerate(sum_over_channels(code, inputs, panel, channels, tile, form)):
            place = code.add(pair, LONG(row))
            with code.if_then(code.icmp_signed("<", place, end)):
                if scaled is not None:
                    starts = (code.add(column, LONG(number * tile.lanes)) for number in range(tile.vectors))
                    vectors = [scaled(vector, at) for vector, at in zip(vectors, starts, strict=True)]
                place = code.at(target(place), column)
                add_to(code, code.bitcast(place, vectors[0].type.element.as_pointer()), vectors)


def _finish(
    code: Code,
    step: Record,
    span: tuple[ir.Value, ir.Value],
    value_of: Callable[[ir.Value, ir.Value], ir.Value],
    tile: Tile,
    kind: ir.Type,
    relu: bool,
) -> None:
    """ReLU, and the result's type."""
    out, wide, columns = step.array("out", kind), step.number("out_wide"), step.number("columns")
    with code.loop(*span) as row, code.loop(0, columns, tile.lanes) as at:
        value = value_of(row, at)
        if relu:
            zero = ir.Constant(value.type, [0.0] * tile.lanes)
            value = code.select(code.fcmp_ordered("<=", value, zero), zero, value)
        code.write(code.as_kind(value, kind), code.at(out, (row, wide), at))
