"""Parts of the compiled code of layers (:mod:`~ov3d_perception.sparse.layer_code`) and of their kernels' gradients
(:mod:`~ov3d_perception.sparse.kernel_gradient`).

Loops keep a tile of results in the vector registers, eight rows by up to three vectors, while they go through the
kernel map. They read rows in place and add results in place, so that neither gathered rows nor products are stored.
That makes them faster than a matrix library with the same number of multiplications.

Features are float32 or bfloat16, sums are float32. Where the processor multiplies pairs of bfloat16, two input
channels are multiplied at a time; else they are converted to float32. Of bytes, where it multiplies such, it is four
channels, and sums are integers.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from llvmlite import ir
from torch import Tensor

from ov3d_perception.llvm_code import BYTE, FLOAT, HALF, LONG, WORD, Code, host


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

    @property
    def total(self) -> ir.Type:
        """Type of the sums of products."""
        return WORD if self.kind is BYTE else FLOAT


def fits(feats: Tensor, channels: int) -> bool:
    """Whether there are kernels from ``feats`` to this number of channels."""
    return feats.device.type == "cpu" and feats.dtype in (torch.float32, torch.bfloat16) and channels % 4 == 0


def halves_pay() -> bool:
    """Whether products of bfloat16 are faster than those of float32 on this processor."""
    return host().dot_pays


def multiplies_bytes() -> bool:
    """Whether this processor has instructions for products of bytes, which :func:`dot_bytes` needs."""
    return host().dot_bytes


@cache
def tile_for(channels: int) -> Tile:
    """The largest tile that divides a row of this number of channels."""
    lanes, registers, *_ = host()
    lanes = next(n for n in (lanes, 8, 4) if n <= lanes and channels % n == 0)
    vectors = next(n for n in (3, 2, 1) if channels % (n * lanes) == 0)
    return Tile(8 if registers >= 32 else 12 // vectors, vectors, lanes)


def form_of(dtype: torch.dtype) -> Form:
    """How features of this type with an even number of channels are multiplied."""
    if dtype == torch.float32:
        return Form(FLOAT, 1)
    if dtype in (torch.uint8, torch.int8):
        return Form(BYTE, 4)
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
    line = 16 if base.type.pointee is FLOAT else 512 // base.type.pointee.width
    with code.loop(*span) as pair, code.loop(0, width, line) as at:
        code.prefetch(code.at(base, (code.long(code.at(rows, pair)), wide or width), at))


def sum_over_channels(
    code: Code, inputs: list[ir.Value], panel: ir.Value, channels: ir.Value, tile: Tile, form: Form
) -> list[list[ir.Value]]:
    """The tile: each input row times the panel."""
    totals = ir.VectorType(form.total, tile.lanes)
    zero = ir.Constant(totals, None)
    sums = [[code.variable(totals, zero) for _ in range(tile.vectors)] for _ in inputs]
    with code.loop(0, channels, form.step) as channel:
        weights = code.at(panel, (code.sdiv(channel, LONG(form.step)), LONG(tile.columns)))
        matrix = [code.read(code.at(weights, n * tile.lanes), tile.lanes) for n in range(tile.vectors)]
        for row, vectors in zip(inputs, sums, strict=True):
            place = code.at(row, channel)
            if form.step > 1:
                value = code.load(code.bitcast(place, WORD.as_pointer()), align=4 // form.step)
            else:
                value = code.load(place) if form.kind is FLOAT else code.widened(code.load(place))
            spread = code.splat(value, tile.lanes)
            for weight, place in zip(matrix, vectors, strict=True):
                code.store(_multiplied(code, form, spread, weight, code.load(place)), place)
    return [[code.load(place) for place in vectors] for vectors in sums]


def _multiplied(code: Code, form: Form, a: ir.Value, b: ir.Value, known: ir.Value) -> ir.Value:
    if form.step == 1:
        return code.multiply_add(a, b, known)
    return dot(code, a, b, known) if form.step == 2 else dot_bytes(code, a, b, known)


class _BFloat(ir.Type):
    """LLVM's bfloat type, which llvmlite lacks."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash("bfloat")


def dot(code: Code, a: ir.Value, b: ir.Value, known: ir.Value) -> ir.Value:
    """``known + a0 * b0 + a1 * b1`` of pairs of bfloat16."""
    lanes = known.type.count
    pairs = ir.VectorType(_BFloat(), 2 * lanes)
    name = f"llvm.x86.avx512bf16.dpbf16ps.{32 * lanes}"
    return code.intrinsic(name, known, code.bitcast(a, pairs), code.bitcast(b, pairs))


def dot_bytes(code: Code, a: ir.Value, b: ir.Value, known: ir.Value) -> ir.Value:
    """``known + sum of a[n] * b[n]`` of four bytes each, those of ``a`` unsigned, those of ``b`` signed."""
    lanes = known.type.count
    fours = ir.VectorType(BYTE, 4 * lanes)
    name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"
    return code.intrinsic(name, known, code.bitcast(a, fours), code.bitcast(b, fours))


def side_by_side(code: Code, low: ir.Value, high: ir.Value) -> ir.Value:
    """Two vectors of 16 bits as one of 32, whose lower halves are the first's."""
    words = ir.VectorType(WORD, low.type.count)
    below, above = (code.zext(half, words) for half in (low, high))
    return code.or_(below, code.shl(above, ir.Constant(words, [16] * words.count)))


def add_to(code: Code, place: ir.Value, vectors: list[ir.Value]) -> None:
    """Add vectors to those at an address."""
    for number, vector in enumerate(vectors):
        lanes = vector.type.count
        there = code.at(place, number * lanes)
        add = code.add if vector.type.element is WORD else code.fadd
        code.write(add(code.read(there, lanes), vector), there)
