"""A layer as compiled code: a block of output rows at a time.

A layer is a record of addresses and sizes (:class:`Step`, one of :mod:`~ov3d_perception.sparse.steps`). Its function
computes a block of the output rows: sums that begin with the bias and the shortcut, the products of every kernel offset
and of the shortcut's own matrix, ReLU, and the result in the features' type.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Float32
from llvmlite import ir
from torch import Tensor

from ov3d_perception.llvm_code import FLOAT, HALF, LONG, WORD, Code
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


def packed(kernel: Float[Tensor, "k i o"]) -> Float[Tensor, "k p h w"]:
    """Matrices as they are read: panel after panel of columns; of bfloat16 two rows as one where pairs are multiplied.

    Of bfloat16, an odd number of rows is filled up with zeros.
    """
    tile, form = tile_for(kernel.shape[2]), form_of(kernel.dtype)
    if kernel.dtype == torch.bfloat16:
        kernel = torch.nn.functional.pad(kernel, (0, 0, 0, kernel.shape[1] % 2))
    if form.step == 1:
        return kernel.float().unflatten(2, (-1, tile.columns)).transpose(1, 2).contiguous()
    pairs = kernel.unflatten(1, (-1, 2)).unflatten(3, (-1, tile.columns))
    return pairs.permute(0, 3, 1, 4, 2).flatten(3).contiguous()


class PackStep(NamedTuple):
    """A record that packs a float32 kernel, in the time of a step. A block is an offset's matrix."""

    function: int
    blocks: int
    kernel: int
    panels: int
    channels: int
    columns: int


def pack_step(kernel: Float32[Tensor, "k i o"], panels: int, transposed: bool) -> PackStep:
    """What :func:`packed` does, for the kernel or, transposed, for that of its features' gradient. The kernel is
    contiguous; panels: address of as many floats."""
    channels, columns = kernel.shape[:0:-1] if transposed else kernel.shape[1:]
    return PackStep(_pack(tile_for(columns), transposed), len(kernel), kernel.data_ptr(), panels, channels, columns)


@cache
def _pack(tile: Tile, transposed: bool) -> int:
    def write(code: Code) -> None:
        record, block, _ = code.fn.args
        step = Record(code, record, PackStep._fields)
        channels, columns = step.number("channels"), step.number("columns")
        size = code.mul(channels, columns)
        kernel, panels = (code.at(step.array(name, FLOAT), (block, size)) for name in ("kernel", "panels"))
        with code.loop(0, columns, tile.columns) as column, code.loop(0, channels) as row:
            target = code.at(panels, (column, channels), (row, LONG(tile.columns)))
            if transposed:
                with code.loop(0, LONG(tile.columns)) as at:
                    source = code.at(kernel, (code.add(column, at), channels), row)
                    code.store(code.load(source), code.at(target, at))
            else:
                for at in range(0, tile.columns, tile.lanes):
                    source = code.at(kernel, (row, columns), column, at)
                    code.write(code.read(source, tile.lanes), code.at(target, at))

    return step_function(f"pack_{tile.vectors}_{tile.lanes}_{transposed}", write)


def layer(columns: int, dtype: torch.dtype, shortcut: str = "none", relu: bool = False) -> int:
    """Address of the function of a layer with so many output channels; shortcut: none, same or projected."""
    tile, form = tile_for(columns), form_of(dtype)
    return _layer(tile, form, shortcut, relu)


@cache
def _layer(tile: Tile, form: Form, shortcut: str, relu: bool) -> int:
    name = f"layer_{tile.rows}_{tile.vectors}_{tile.lanes}_{form.kind}_{form.step}_{shortcut}_{relu}"
    return step_function(name, lambda code: _write_layer(code, tile, form, shortcut, relu))


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


def _write_layer(code: Code, tile: Tile, form: Form, shortcut: str, relu: bool) -> None:
    record, block, sums = code.fn.args
    step = Record(code, record, Step._fields)
    rows, columns = step.array("rows", WORD), step.number("columns")
    first, end = (code.long(code.at(rows, at)) for at in (block, code.add(block, LONG(1))))
    _begin(code, step, (first, end), sums, tile, form, shortcut == "same")
    _add_pairs(code, step, block, first, sums, tile, form)
    if shortcut == "projected":
        feats, wide = step.array("shortcut", form.kind), step.number("shortcut_wide")

        def own(place: ir.Value) -> ir.Value:
            return code.at(feats, (place, wide))

        def target(place: ir.Value) -> ir.Value:
            return code.at(sums, (code.sub(place, first), columns))

        matrix = step.array("matrix", FLOAT)
        _add_tiles(code, (first, end), (own, target), matrix, step.number("shortcut_channels"), columns, tile, form)
    _finish(code, step, (first, end), sums, tile, form, relu)


def _begin(
    code: Code, step: Record, span: tuple[ir.Value, ir.Value], sums: ir.Value, tile: Tile, form: Form, shortcut: bool
) -> None:
    """Bias, and the shortcut's rows."""
    columns, bias = step.number("columns"), step.array("bias", FLOAT)
    with code.loop(*span) as row, code.loop(0, columns, tile.lanes) as at:
        value = code.read(code.at(bias, at), tile.lanes)
        if shortcut:
            base, wide = step.array("shortcut", form.kind), step.number("shortcut_wide")
            beside = code.read(code.at(base, (row, wide), at), tile.lanes)
            value = code.fadd(value, code.widened(beside) if form.kind is HALF else beside)
        code.write(value, code.at(sums, (code.sub(row, span[0]), columns), at))


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
                add_to(code, code.at(target(place), column), vectors)


def _finish(
    code: Code, step: Record, span: tuple[ir.Value, ir.Value], sums: ir.Value, tile: Tile, form: Form, relu: bool
) -> None:
    """ReLU, and the features' type."""
    out, wide, columns = step.array("out", form.kind), step.number("out_wide"), step.number("columns")
    with code.loop(*span) as row, code.loop(0, columns, tile.lanes) as at:
        value = code.read(code.at(sums, (code.sub(row, span[0]), columns), at), tile.lanes)
        if relu:
            zero = ir.Constant(value.type, [0.0] * tile.lanes)
            value = code.select(code.fcmp_ordered("<=", value, zero), zero, value)
        code.write(code.narrowed(value) if form.kind is HALF else value, code.at(out, (row, wide), at))
