"""Who meets whom under a kernel, compiled for this processor: a walk along two sorted lists of keys.

A column of the kernel (one dx and dy, all dz) shifts the keys of the outputs by the same amount. They stay sorted, so
input and output lists are walked through together once for each column, without any lookups. The first walk notes for
each output voxel where its column begins among the inputs and which of it is occupied; the second, when it is known how
many pairs each offset has, writes the pairs where they belong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import accumulate
from typing import NamedTuple

import torch
from jaxtyping import Int32, Int64
from llvmlite import ir
from torch import Tensor

from ov3d_perception.llvm_code import LONG, LONGS, WORD, Code
from ov3d_perception.sparse.compiling import compiled
from ov3d_perception.sparse.keys import PLACES
from ov3d_perception.sparse.runtime.workers import run_on_threads

_BEYOND = torch.iinfo(torch.int64).max
_BITS = 8
"""Of a note: which offsets of a column, at most so many, are occupied; the other bits are the first input."""
TALLEST = _BITS
_FEW = 1 << 14
"""Fewer voxels are searched by one thread."""


class Pairs(NamedTuple):
    """Input and output rows of all pairs, kernel row after kernel row, and how many pairs each has."""

    in_rows: Int32[Tensor, " p"]
    out_rows: Int32[Tensor, " p"]
    sizes: tuple[int, ...]


class Column(NamedTuple):
    """Offsets of a kernel along z. shift: of the first, in keys; slots: kernel rows of the first few, those wanted."""

    shift: int
    slots: Sequence[int]


def find_pairs(
    in_keys: Int64[Tensor, " n"],
    out_keys: Int64[Tensor, " m"],
    columns: Sequence[Column],
    step: int,
    volume: int,
    mirrored: bool = False,
) -> Pairs:
    """All (p, q) with ``in_keys[p] == out_keys[q] + shift`` for each offset of the columns; both lists ascend.

    step: between the offsets of a column, which has at most :data:`TALLEST`; no input key lies in between.
    mirrored: both lists are the same, and the columns hold half of the kernel: the pairs of row ``volume - 1 - slot``
    are those of ``slot`` turned round, and the row in the middle is each voxel with itself.
    """
    n, tall = len(out_keys), max(len(column.slots) for column in columns)
    inputs = torch.cat([in_keys, in_keys.new_full((1,), _BEYOND)])
    outputs = out_keys.contiguous()
    notes = torch.empty(len(columns) * n, dtype=torch.int64)
    counts = torch.zeros(len(columns), tall, dtype=torch.int64)
    shifts = torch.tensor([column.shift for column in columns])
    wanted = torch.tensor([(1 << len(column.slots)) - 1 for column in columns])
    search = _search(tall)

    def work(numbers: Iterable[int]) -> None:
        for number in numbers:
            own = (shifts[number:], wanted[number:], notes[number * n :], counts[number])
            search(*(part.data_ptr() for part in (inputs, outputs, *own)), 1, n, step)

    if n < _FEW:
        everything = (inputs, outputs, shifts, wanted, notes, counts)
        search(*(part.data_ptr() for part in everything), len(columns), n, step)
    else:
        run_on_threads(work, list(range(len(columns))), in_keys.device)
    sizes = [0] * volume
    for column, found in zip(columns, counts.tolist(), strict=True):
        for slot, size in zip(column.slots, found, strict=False):
            sizes[slot] = size
            if mirrored:
                sizes[volume - 1 - slot] = size
    if mirrored:
        sizes[volume // 2] = n
    starts = list(accumulate(sizes, initial=0))
    in_rows, out_rows = (torch.empty(starts[-1], dtype=torch.int32) for _ in range(2))
    own = _places([column.slots for column in columns], tall, starts)
    turned = _places([[volume - 1 - slot for slot in column.slots] for column in columns], tall, starts)
    arrays = (notes, own, turned, in_rows, out_rows)
    _fill(mirrored)(*(part.data_ptr() for part in arrays), len(columns), n, tall)
    if mirrored:
        same = slice(starts[volume // 2], starts[volume // 2 + 1])
        torch.arange(n, dtype=torch.int32, out=in_rows[same])
        torch.arange(n, dtype=torch.int32, out=out_rows[same])
    return Pairs(in_rows, out_rows, tuple(sizes))


def _places(slots: Sequence[Sequence[int]], tall: int, starts: Sequence[int]) -> Int64[Tensor, "c t"]:
    """Where the next pair of each offset goes."""
    return torch.tensor([[starts[slot] for slot in row] + [0] * (tall - len(row)) for row in slots])


def halving_pairs(keys: Int64[Tensor, " n"], parent: Int32[Tensor, " n"], level: int) -> Pairs:
    """Pairs of a convolution of size 2 and stride 2 from stride ``2 ** level``: each input with its parent, under the
    offset that the lowest bits of its axes are. keys, parent: of each input row."""
    in_rows, out_rows = (torch.empty(len(keys), dtype=torch.int32) for _ in range(2))
    counts = torch.zeros(16, dtype=torch.int64)
    arrays = (keys.contiguous(), parent.contiguous(), in_rows, out_rows, counts)
    _halve()(*(part.data_ptr() for part in arrays), len(keys), level)
    return Pairs(in_rows, out_rows, tuple(counts[:8].tolist()))


@cache
def _search(tall: int) -> Callable[..., None]:
    return compiled(f"search_{tall}", [LONGS] * 6 + [LONG] * 3, lambda code: _write_search(code, tall))


def _write_search(code: Code, tall: int) -> None:
    inputs, outputs, shifts, wanted, notes, counts, columns, n, step = code.fn.args
    with code.loop(0, columns) as column:
        shift, kept = (code.load(code.at(part, column)) for part in (shifts, wanted))
        first = code.variable(LONG, LONG(0))
        found = [code.variable(LONG, LONG(0)) for _ in range(tall)]
        with code.loop(0, n) as row:
            key = code.add(code.load(code.at(outputs, row)), shift)
            with code.loop_while(lambda: code.icmp_signed("<", code.load(code.at(inputs, code.load(first))), key)):
                code.increment(first)
            place: ir.Value = code.load(first)
            note = code.shl(place, LONG(_BITS))
            for number, total in enumerate(found):
                hit = code.zext(code.icmp_signed("==", code.load(code.at(inputs, place)), key), LONG)
                asked = code.and_(hit, code.lshr(kept, LONG(number)))
                note = code.or_(note, code.shl(asked, LONG(number)))
                code.increment(total, asked)
                place = code.add(place, hit)
                key = code.add(key, step)
            code.store(note, code.at(notes, (column, n), row))
        for number, total in enumerate(found):
            code.store(code.load(total), code.at(counts, (column, LONG(tall)), number))


@cache
def _fill(mirrored: bool) -> Callable[..., None]:
    kinds = [LONGS] * 3 + [WORD] * 2 + [LONG] * 3
    return compiled(f"fill_{mirrored}", kinds, lambda code: _write_fill(code, mirrored))


def _write_fill(code: Code, mirrored: bool) -> None:
    notes, own, turned, in_rows, out_rows, columns, n, tall = code.fn.args
    with code.loop(0, columns) as column, code.loop(0, n) as row:
        note = code.load(code.at(notes, (column, n), row))
        left = code.variable(LONG, code.and_(note, LONG((1 << _BITS) - 1)))
        place = code.variable(LONG, code.lshr(note, LONG(_BITS)))
        with code.loop_while(lambda: code.icmp_signed("!=", code.load(left), LONG(0))):
            bits = code.load(left)
            number = code.cttz(bits, ir.IntType(1)(0))
            code.store(code.and_(bits, code.sub(bits, LONG(1))), left)
            pair = [code.trunc(end, WORD) for end in (code.increment(place), row)]
            for starts, ends in ((own, pair), (turned, pair[::-1]))[: 2 if mirrored else 1]:
                at = code.increment(code.at(starts, (column, tall), number))
                for rows, end in zip((in_rows, out_rows), ends, strict=True):
                    code.store(end, code.at(rows, at))


@cache
def _halve() -> Callable[..., None]:
    return compiled("halve", [LONGS, WORD, WORD, WORD, LONGS, LONG, LONG], _write_halve)


def _write_halve(code: Code) -> None:
    """Count the inputs of each offset, then write them after those of the offsets before."""
    keys, parent, in_rows, out_rows, counts, n, level = code.fn.args

    def offset(row: ir.Value) -> ir.Value:
        key = code.lshr(code.load(code.at(keys, row)), level)
        z, y, x = (code.and_(code.lshr(key, LONG(place)), LONG(1)) for place in PLACES[:3])
        return code.or_(x, code.or_(code.shl(y, LONG(1)), code.shl(z, LONG(2))))

    with code.loop(0, n) as row:
        code.increment(code.at(counts, offset(row)))
    places = code.at(counts, 8)
    with code.loop(1, LONG(8)) as slot:
        before = code.sub(slot, LONG(1))
        total = code.add(code.load(code.at(places, before)), code.load(code.at(counts, before)))
        code.store(total, code.at(places, slot))
    with code.loop(0, n) as row:
        at = code.increment(code.at(places, offset(row)))
        code.store(code.trunc(row, WORD), code.at(in_rows, at))
        code.store(code.load(code.at(parent, row)), code.at(out_rows, at))
