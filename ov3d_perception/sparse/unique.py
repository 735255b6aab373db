"""Distinct keys of voxels in ascending order: a radix sort, compiled for this processor."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from jaxtyping import Int32, Int64
from llvmlite import ir
from torch import Tensor

from ov3d_perception.llvm_code import LONG, LONGS, WORD, Code
from ov3d_perception.sparse.compiling import compiled
from ov3d_perception.sparse.keys import BITS, PLACES

_DIGIT = 11
"""Bits by which a pass sorts: so few that the counts of a digit stay in the inner cache."""


def unique_keys(keys: Int64[Tensor, " n"]) -> tuple[Int64[Tensor, " m"], Int32[Tensor, " n"]]:
    """The distinct ``keys`` in ascending order, and for each key its place among them."""
    if keys.device.type != "cpu" or len(keys) == 0:
        found, inverse = torch.unique(keys, return_inverse=True)
        return found, inverse.int()
    keys, n = keys.contiguous(), len(keys)
    found, inverse, count = torch.empty_like(keys), torch.empty(n, dtype=torch.int32), torch.zeros(1, dtype=torch.int64)
    short, rows = torch.empty(2 * n, dtype=torch.int64), torch.empty(2 * n, dtype=torch.int32)
    counts = torch.empty(1 << _DIGIT, dtype=torch.int32)
    _unique()(*(part.data_ptr() for part in (keys, found, inverse, count, short, rows, counts)), n)
    return found[: int(count)].clone(), inverse


@cache
def _unique() -> Callable[..., None]:
    return compiled("unique", [LONGS, LONGS, WORD, LONGS, LONGS, WORD, WORD, LONG], _write)


def _write(code: Code) -> None:
    """Keys are sorted without the bits that are the same in all of them, which most are."""
    keys, found, inverse, count, short, rows, counts, n = code.fn.args
    bits = _shorten(code, keys, short, rows, n)
    source, target = (code.variable(LONG, start) for start in (LONG(0), n))  # where in ``short`` and ``rows``
    with code.loop(0, bits, _DIGIT) as low:
        _pass(code, (short, rows), counts, low, (code.load(source), code.load(target)), n)
        before = code.load(source)
        code.store(code.load(target), source)
        code.store(before, target)
    short, rows = (code.at(part, code.load(source)) for part in (short, rows))
    place = code.variable(LONG, LONG(-1))
    with code.loop(0, n) as at:
        own = code.load(code.at(short, at))
        start = code.icmp_signed("==", at, LONG(0))
        previous = code.load(code.at(short, code.select(start, at, code.sub(at, LONG(1)))))
        first = code.or_(start, code.icmp_signed("!=", own, previous))
        code.increment(place, code.zext(first, LONG))
        row, now = code.long(code.at(rows, at)), code.load(place)
        code.store(code.load(code.at(keys, row)), code.at(found, now))
        code.store(code.trunc(now, WORD), code.at(inverse, row))
    code.store(code.add(code.load(place), LONG(1)), count)


def _shorten(code: Code, keys: ir.Value, short: ir.Value, rows: ir.Value, n: ir.Value) -> ir.Value:
    """Write the keys with each axis counted from its least, in as few bits as the axis takes; returns their number."""
    lows = [code.variable(LONG, LONG((1 << 62) - 1)) for _ in PLACES]
    highs = [code.variable(LONG, LONG(0)) for _ in PLACES]
    with code.loop(0, n) as at:
        key = code.load(code.at(keys, at))
        for axis, low, high in zip(_axes(code, key), lows, highs, strict=True):
            code.store(code.least(axis, code.load(low)), low)
            code.store(code.greatest(axis, code.load(high)), high)
    bits: ir.Value = LONG(0)
    starts = []
    for low, high in zip(lows, highs, strict=True):
        starts.append(bits)
        reach = code.sub(code.load(high), code.load(low))
        bits = code.add(bits, code.sub(LONG(64), code.ctlz(reach, ir.IntType(1)(0))))
    with code.loop(0, n) as at:
        total: ir.Value = LONG(0)
        for axis, low, start in zip(_axes(code, code.load(code.at(keys, at))), lows, starts, strict=True):
            total = code.or_(total, code.shl(code.sub(axis, code.load(low)), start))
        code.store(total, code.at(short, at))
        code.store(code.trunc(at, WORD), code.at(rows, at))
    return bits


def _axes(code: Code, key: ir.Value) -> list[ir.Value]:
    """z, y, x and the batch."""
    mask = LONG((1 << BITS) - 1)
    return [code.and_(code.lshr(key, LONG(place)), mask) for place in PLACES]


def _pass(
    code: Code,
    arrays: tuple[ir.Value, ir.Value],
    counts: ir.Value,
    low: ir.Value,
    ways: tuple[ir.Value, ir.Value],
    n: ir.Value,
) -> None:
    """Sort by one digit, stably, from one half of the arrays into the other."""
    sources, targets = ([code.at(array, way) for array in arrays] for way in ways)

    def digit(at: ir.Value) -> ir.Value:
        key = code.load(code.at(sources[0], at))
        return code.at(counts, code.and_(code.lshr(key, low), LONG((1 << _DIGIT) - 1)))

    with code.loop(0, LONG(1 << _DIGIT)) as value:
        code.store(WORD(0), code.at(counts, value))
    with code.loop(0, n) as at:
        code.increment(digit(at))
    total = code.variable(WORD, WORD(0))
    with code.loop(0, LONG(1 << _DIGIT)) as value:
        place = code.at(counts, value)
        code.store(code.increment(total, code.load(place)), place)
    with code.loop(0, n) as at:
        place = code.sext(code.increment(digit(at)), LONG)
        for source, target in zip(sources, targets, strict=True):
            code.store(code.load(code.at(source, at)), code.at(target, place))
