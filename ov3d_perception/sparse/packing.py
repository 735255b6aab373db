"""Kernels laid out in panels, as compiled code reads them."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float32, Num
from llvmlite import ir
from torch import Tensor

from ov3d_perception.llvm_code import FLOAT, LONG, WORD, Code
from ov3d_perception.sparse.kernels import Form, Tile, form_of, side_by_side, tile_for
from ov3d_perception.sparse.steps import Record, step_function


def packed(kernel: Num[Tensor, "k i o"]) -> Num[Tensor, "k p h w"]:
    """Matrices as they are read: panel after panel of columns; of bfloat16 two rows as one where pairs are multiplied,
    of int8 four.

    Of bfloat16, an odd number of rows is filled up with zeros. Of int8, their number is a multiple of four.
    """
    tile, form = tile_for(kernel.shape[2]), form_of(kernel.dtype)
    if kernel.dtype == torch.bfloat16:
        kernel = torch.nn.functional.pad(kernel, (0, 0, 0, kernel.shape[1] % 2))
    if form.step == 1:
        return kernel.float().unflatten(2, (-1, tile.columns)).transpose(1, 2).contiguous()
    groups = kernel.unflatten(1, (-1, form.step)).unflatten(3, (-1, tile.columns))
    return groups.permute(0, 3, 1, 4, 2).flatten(3).contiguous()


class PackStep(NamedTuple):
    """A record that packs a float32 kernel, in the time of a step. A block is an offset's matrix."""

    function: int
    blocks: int
    kernel: int
    panels: int
    channels: int
    columns: int


def pack_step(
    kernel: Float32[Tensor, "k i o"], panels: int, transposed: bool, dtype: torch.dtype = torch.float32
) -> PackStep:
    """What :func:`packed` does, for the kernel or, transposed, for that of its features' gradient, in this type. The
    kernel is contiguous; panels: address of as many floats. Transposed to bfloat16, it has an even number of columns.
    """
    channels, columns = kernel.shape[:0:-1] if transposed else kernel.shape[1:]
    function = _pack(tile_for(columns), form_of(dtype), transposed)
    return PackStep(function, len(kernel), kernel.data_ptr(), panels, channels, columns)


@cache
def _pack(tile: Tile, form: Form, transposed: bool) -> int:
    name = f"pack_{tile.vectors}_{tile.lanes}_{form.step}_{transposed}"
    return step_function(name, lambda code: _write_pack(code, tile, form, transposed))


def _write_pack(code: Code, tile: Tile, form: Form, transposed: bool) -> None:
    record, block, _ = code.fn.args
    step = Record(code, record, PackStep._fields)
    channels, columns = step.number("channels"), step.number("columns")
    kernel = code.at(step.array("kernel", FLOAT), (block, code.mul(channels, columns)))
    rows = code.sdiv(code.add(channels, LONG(form.step - 1)), LONG(form.step))
    panels = code.at(step.array("panels", FLOAT), (block, code.mul(rows, columns)))
    with code.loop(0, columns, tile.columns) as column, code.loop(0, rows) as row:
        target = code.at(panels, (column, rows), (row, LONG(tile.columns)))
        channel = code.mul(row, LONG(form.step))
        if transposed:
            source = code.at(kernel, (column, channels), channel)
            _turn(code, source, target, channels, tile, form)
        else:
            source = code.at(kernel, (channel, columns), column)
            _copy(code, source, target, columns, code.sub(channels, channel), tile, form)


def _turn(code: Code, source: ir.Value, target: ir.Value, wide: ir.Value, tile: Tile, form: Form) -> None:
    """A row of a panel from a column of the matrix, whose rows are ``wide``; or from two columns."""
    with code.loop(0, LONG(tile.columns)) as at:
        place = code.at(source, (at, wide))
        if form.step == 1:
            code.store(code.load(place), code.at(target, at))
        else:
            pair = code.bitcast(code.narrowed(code.read(place, 2)), WORD)
            code.store(pair, code.bitcast(code.at(target, at), WORD.as_pointer()))


def _copy(
    code: Code, source: ir.Value, target: ir.Value, wide: ir.Value, left: ir.Value, tile: Tile, form: Form
) -> None:
    """A row of a panel from a row of the matrix; or from two, if so many are left."""
    there = code.icmp_signed(">", left, LONG(1))
    for at in range(0, tile.columns, tile.lanes):
        own, place = code.at(source, at), code.at(target, at)
        if form.step == 1:
            code.write(code.read(own, tile.lanes), place)
            continue
        other = code.at(own, code.select(there, wide, LONG(0)))
        low, high = (code.narrowed(code.read(row, tile.lanes)) for row in (own, other))
        both = side_by_side(code, low, code.select(there, high, ir.Constant(high.type, None)))
        code.write(both, code.bitcast(place, WORD.as_pointer()))
