"""The inner loop of VCCS, compiled for this processor: growth on an adjacency graph, level by level."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from jaxtyping import Float32, Int32
from llvmlite import ir

from ov3d_perception.geometry.voxel_graph import Adjacency
from ov3d_perception.llvm_code import FLOAT, LONG, WORD, Code, compiled

PLAIN = 6
"""Columns of a voxel's features before its normal: three of its place, three of its colour."""
COLUMNS = PLAIN + 3


def grow(
    adjacency: Adjacency,
    features: Float32[np.ndarray, "n 9"],
    centres: Float32[np.ndarray, "k 9"],
    begin: tuple[Int32[np.ndarray, " s"], Int32[np.ndarray, " s"]],
    normal: float,
    levels: int | None = None,
) -> Int32[np.ndarray, " n"]:
    """The centre that each voxel belongs to, -1 where none came.

    Breadth first: on each level every centre offers itself to the neighbours of the voxels that it took on the level
    before; a voxel goes to the centre of least D that has been offered so far, and only one that takes it flows on.

    D^2 = |a - b|^2 over place and colour + normal * (1 - |n_a . n_b|)^2

    Args:
        adjacency: which voxels touch.
        features: of each voxel: place and colour, scaled by their weights, and normal of unit norm.
        centres: the same of each centre.
        begin: voxels to grow from, each once, and the centres that they belong to; they stay theirs.
        normal: weight of the normals.
        levels: how far a centre grows, in voxels; None grows to the end.
    """
    most = len(adjacency.neighbour) + len(begin[0])
    owner, distance = np.full(len(features), -1, np.int32), np.full(len(features), np.inf, np.float32)
    now, after = np.empty((2, most), np.int32), np.empty((2, most), np.int32)
    now[:, : len(begin[0])] = begin
    owner[begin[0]], distance[begin[0]] = begin[1], 0.0
    weight, found = np.array([normal], np.float32), np.array([len(begin[0])], np.int32)
    graph = (adjacency.start, adjacency.neighbour, features, centres, weight, owner, distance)
    level, left = _level(), levels
    while found[0] and left != 0:
        parts = (*graph, now[0], now[1], after[0], after[1], found)
        assert all(part.flags.c_contiguous for part in parts)
        level(*(part.ctypes.data for part in parts), int(found[0]))
        now, after = after, now
        left = None if left is None else left - 1
    return owner


@cache
def _level() -> Callable[..., None]:
    kinds = [WORD, WORD, FLOAT, FLOAT, FLOAT, WORD, FLOAT, WORD, WORD, WORD, WORD, WORD, LONG]
    return compiled("grow_level", kinds, _write_level)


def _write_level(code: Code) -> None:
    """For each entry (voxel, centre) that still holds, for each neighbour: take it if this centre is nearer."""
    start, neighbour, features, centres, weight, owner, distance, *queues, found, entries = code.fn.args
    voxels, labels, new_voxels, new_labels = queues
    normal, count = code.load(weight), code.variable(LONG, LONG(0))
    with code.loop(0, entries) as entry:
        voxel, label = code.long(code.at(voxels, entry)), code.load(code.at(labels, entry))
        with code.if_then(code.icmp_signed("==", code.load(code.at(owner, voxel)), label)):
            row = code.at(centres, (code.sext(label, LONG), LONG(COLUMNS)))
            centre = [code.load(code.at(row, column)) for column in range(COLUMNS)]
            with code.loop(*(code.long(code.at(start, voxel, step)) for step in (0, 1))) as edge:
                other = code.load(code.at(neighbour, edge))
                index = code.sext(other, LONG)
                squared = _distance(code, code.at(features, (index, LONG(COLUMNS))), centre, normal)
                least = code.at(distance, index)
                with code.if_then(code.fcmp_ordered("<", squared, code.load(least))):
                    number = code.load(count)
                    code.store(squared, least)
                    code.store(label, code.at(owner, index))
                    code.store(other, code.at(new_voxels, number))
                    code.store(label, code.at(new_labels, number))
                    code.store(code.add(number, LONG(1)), count)
    code.store(code.trunc(code.load(count), WORD), found)


def _distance(code: Code, row: ir.Value, centre: list[ir.Value], normal: ir.Value) -> ir.Value:
    """D^2 of a voxel and a centre."""
    total, dot = FLOAT(0.0), FLOAT(0.0)
    for column, middle in enumerate(centre):
        value = code.load(code.at(row, column))
        if column < PLAIN:
            difference = code.fsub(value, middle)
            total = code.fadd(total, code.fmul(difference, difference))
        else:
            dot = code.fadd(dot, code.fmul(value, middle))
    bend = code.fsub(FLOAT(1.0), code.intrinsic("llvm.fabs.f32", dot))
    return code.fadd(total, code.fmul(normal, code.fmul(bend, bend)))
