"""Compiled loops of a vector-matrix grid: interpolation, its gradient, and rays that look where they are going.

PyTorch's ``grid_sample`` wants channels first, so that a point's channels lie far apart, and makes a tensor for every
plane, line and product. Here a row holds a point's channels, and all happens in the vector registers.

Points are in units of cells: 0 is the first node of an axis, n - 1 the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

from llvmlite import ir

from ov3d_perception.llvm_code import FLOAT, LONG, LONGS, WORD, Code, compiled, host

PLANES = ((0, 1), (0, 2), (1, 2))
"""Axes (x, y) of each plane, whose rows run along y; its line runs along the third axis."""
LINES = (2, 1, 0)
_BYTE = ir.IntType(8)
_GRIDS = [FLOAT] * 6


def fits(channels: Sequence[int]) -> bool:
    """Whether there is code for grids of so many channels a plane."""
    return all(c % 4 == 0 and c > 0 for c in channels)


@cache
def interpolate(channels: tuple[int, int, int], total: bool) -> Callable[..., None]:
    """(points, planes and lines, sizes, out, begin, end): out (n, sum of channels), or their sum (n,)."""

    def write(code: Code) -> None:
        points, *grids, sizes, out, begin, end = code.fn.args
        with code.loop(begin, end) as n:
            cell = _cell(code, [code.load(code.at(points, (n, LONG(3)), axis)) for axis in range(3)], sizes)
            if total:
                code.store(_sum(code, channels, grids, sizes, cell), code.at(out, n))
            else:
                row = code.at(out, (n, LONG(sum(channels))))
                for offset, plane, line, _ in _chunks(code, channels, grids, sizes, cell):
                    code.write(code.fmul(plane, line), code.at(row, offset))

    return compiled("vm_interpolate", [FLOAT, *_GRIDS, LONGS, FLOAT, LONG, LONG], write)


@cache
def add_gradients(channels: tuple[int, int, int], total: bool) -> Callable[..., None]:
    """(points, planes and lines, their gradients, sizes, gradient of out, begin, end): adds to the gradients."""

    def write(code: Code) -> None:
        points, *rest, sizes, out, begin, end = code.fn.args
        grids, gradients = rest[:6], rest[6:]
        with code.loop(begin, end) as n:
            cell = _cell(code, [code.load(code.at(points, (n, LONG(3)), axis)) for axis in range(3)], sizes)
            row = code.at(out, n) if total else code.at(out, (n, LONG(sum(channels))))
            whole = code.load(row) if total else None
            targets = list(_chunks(code, channels, gradients, sizes, cell, values=False))
            for (offset, plane, line, _), (*_, places) in zip(
                _chunks(code, channels, grids, sizes, cell), targets, strict=True
            ):
                lanes = plane.type.count
                given = code.splat(whole, lanes) if total else code.read(code.at(row, offset), lanes)
                by_plane, by_line = code.fmul(given, line), code.fmul(given, plane)
                for number, (place, weight) in enumerate(places):
                    share = by_plane if number < 4 else by_line
                    known = code.read(place, lanes)
                    code.write(code.multiply_add(share, code.splat(weight, lanes), known), place)

    return compiled("vm_gradients", [FLOAT, *_GRIDS, *_GRIDS, LONGS, FLOAT, LONG, LONG], write)


@cache
def march(channels: tuple[int, int, int]) -> Callable[..., None]:
    """Samples of rays in occupied cells, each ray until nothing can be seen behind.

    (origins, directions, spans, offsets, settings, occupancy, its sizes, planes and lines, sizes, out points, out t,
    out features, out rays, state, begin, end). Origins and directions in cells; spans (n, 2): t of entry and exit;
    offsets (n,): of the first sample, in steps. settings: step; what the features are shifted by; optical depth of a
    unit of density over a step; optical depth at which a ray ends. state: number of samples so far.

    The depth is estimated by max(feature + shift, 0), which no activation of ours falls below, so that no ray ends
    early.
    """

    def write(code: Code) -> None:
        origins, directions, spans, offsets, settings, occupied, masks, *rest = code.fn.args
        grids, (sizes, out_points, out_t, out_features, out_rays, state, begin, end) = rest[:6], rest[6:]
        step, shift, scale, limit = (code.load(code.at(settings, n)) for n in range(4))
        zero = FLOAT(0.0)
        ratios = []
        for axis in range(3):
            cells = code.sitofp(code.sub(code.load(code.at(sizes, axis)), LONG(1)), FLOAT)
            ratios.append(code.fdiv(code.sitofp(code.load(code.at(masks, axis)), FLOAT), cells))
        with code.loop(begin, end) as ray:
            o = [code.load(code.at(origins, (ray, LONG(3)), axis)) for axis in range(3)]
            d = [code.load(code.at(directions, (ray, LONG(3)), axis)) for axis in range(3)]
            start, stop = (code.load(code.at(spans, (ray, LONG(2)), n)) for n in range(2))
            first = code.fadd(start, code.fmul(step, code.load(code.at(offsets, ray))))
            count, depth = code.variable(LONG, LONG(0)), code.variable(FLOAT, zero)

            def t_now(count: ir.Value = count, first: ir.Value = first) -> ir.Value:
                return code.fadd(first, code.fmul(step, code.sitofp(code.load(count), FLOAT)))

            def going(depth: ir.Value = depth, stop: ir.Value = stop) -> ir.Value:
                return code.and_(code.fcmp_ordered("<", t_now(), stop), code.fcmp_ordered("<", code.load(depth), limit))

            with code.loop_while(going):
                t = t_now()
                code.increment(count)
                point = [code.fadd(a, code.fmul(t, b)) for a, b in zip(o, d, strict=True)]
                place = LONG(0)
                for axis in (2, 1, 0):
                    cells = code.load(code.at(masks, axis))
                    index = code.fptosi(_clamped(code, code.fmul(point[axis], ratios[axis]), cells), LONG)
                    index = code.least(index, code.sub(cells, LONG(1)))
                    place = code.add(code.mul(place, cells), index)
                seen = code.icmp_unsigned("!=", code.load(code.at(occupied, place)), _BYTE(0))
                with code.if_then(seen):
                    feature = _sum(code, channels, grids, sizes, _cell(code, point, sizes))
                    number = code.increment(state)
                    for axis in range(3):
                        code.store(point[axis], code.at(out_points, (number, LONG(3)), axis))
                    code.store(t, code.at(out_t, number))
                    code.store(feature, code.at(out_features, number))
                    code.store(code.trunc(ray, WORD), code.at(out_rays, number))
                    density = code.fadd(feature, shift)
                    density = code.select(code.fcmp_ordered(">", density, zero), density, zero)
                    code.store(code.fadd(code.load(depth), code.fmul(density, scale)), depth)

    kinds = [FLOAT, FLOAT, FLOAT, FLOAT, FLOAT, _BYTE, LONGS, *_GRIDS, LONGS, FLOAT, FLOAT, FLOAT, WORD, LONGS]
    return compiled("vm_march", [*kinds, LONG, LONG], write)


Cell = list[tuple[ir.Value, ir.Value]]


def _cell(code: Code, point: Sequence[ir.Value], sizes: ir.Value) -> Cell:
    """For each axis the node before the point and the share of the node behind it."""
    found = []
    for axis, value in enumerate(point):
        size = code.load(code.at(sizes, axis))
        inside = _clamped(code, value, code.sub(size, LONG(1)))
        node = code.least(code.fptosi(inside, LONG), code.sub(size, LONG(2)))
        found.append((node, code.fsub(inside, code.sitofp(node, FLOAT))))
    return found


def _clamped(code: Code, value: ir.Value, last: ir.Value) -> ir.Value:
    top = code.sitofp(last, FLOAT)
    value = code.select(code.fcmp_ordered(">", value, FLOAT(0.0)), value, FLOAT(0.0))
    return code.select(code.fcmp_ordered("<", value, top), value, top)


def _chunks(
    code: Code,
    channels: Sequence[int],
    grids: Sequence[ir.Value],
    sizes: ir.Value,
    cell: Cell,
    values: bool = True,
) -> Iterator[tuple[int, ir.Value, ir.Value, list[tuple[ir.Value, ir.Value]]]]:
    """A register's channels at a time: their offset; plane and line there; the six places they come from, weighted."""
    one, offset = FLOAT(1.0), 0
    for mode, width in enumerate(channels):
        (x, right), (y, below), (z, behind) = cell[PLANES[mode][0]], cell[PLANES[mode][1]], cell[LINES[mode]]
        stride = code.load(code.at(sizes, PLANES[mode][0]))
        plane, line = grids[2 * mode], grids[2 * mode + 1]
        left, above = code.fsub(one, right), code.fsub(one, below)
        corner = code.at(plane, (code.add(code.mul(y, stride), x), LONG(width)))
        under = code.at(corner, (stride, LONG(width)))
        node = code.at(line, (z, LONG(width)))
        places = [
            (corner, code.fmul(left, above)),
            (code.at(corner, width), code.fmul(right, above)),
            (under, code.fmul(left, below)),
            (code.at(under, width), code.fmul(right, below)),
            (node, code.fsub(one, behind)),
            (code.at(node, width), behind),
        ]
        lanes = next(n for n in (16, 8, 4) if n <= host().lanes and width % n == 0)
        weights = [code.splat(weight, lanes) for _, weight in places] if values else []
        for at in range(0, width, lanes):
            here = [(code.at(place, at), weight) for place, weight in places]
            known = [None, None]
            for number, weight in enumerate(weights):
                value, part = code.read(here[number][0], lanes), int(number > 3)
                before = known[part]
                known[part] = code.fmul(value, weight) if before is None else code.multiply_add(value, weight, before)
            yield offset + at, known[0], known[1], here
        offset += width


def _sum(code: Code, channels: Sequence[int], grids: Sequence[ir.Value], sizes: ir.Value, cell: Cell) -> ir.Value:
    """Sum over all channels of plane times line."""
    sums: dict[int, ir.Value] = {}
    for _, plane, line, _ in _chunks(code, channels, grids, sizes, cell):
        lanes = plane.type.count
        sums[lanes] = code.fmul(plane, line) if lanes not in sums else code.multiply_add(plane, line, sums[lanes])
    total = FLOAT(0.0)
    for lanes, vector in sums.items():
        while lanes > 1:
            half = lanes // 2
            parts = [ir.Constant(ir.VectorType(WORD, half), list(range(n, n + half))) for n in (0, half)]
            low, high = (code.shuffle_vector(vector, vector, part) for part in parts)
            vector, lanes = code.fadd(low, high), half
        total = code.fadd(total, code.extract_element(vector, WORD(0)))
    return total
