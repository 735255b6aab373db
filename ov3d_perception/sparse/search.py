"""The pairs of a kernel map from voxels' keys.

Only the first offset of each (dx, dy) column of the kernel is looked for; the others follow along dz, since neighbours
along z are neighbours in the sorted list. Where input and output are the same voxels, the second half of the kernel is
the first with input and output swapped, and its centre is the identity. On a CPU compiled code walks through the lists
(:mod:`~ov3d_perception.sparse.neighbours`), on other devices ``searchsorted`` looks the keys up.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from ov3d_perception.sparse import neighbours
from ov3d_perception.sparse.keys import shift
from ov3d_perception.sparse.neighbours import TALLEST, Column, Pairs


def offsets(kernel_size: int) -> list[int]:
    """Kernel positions along one axis: centred for odd sizes, 0..k-1 for even ones (MinkowskiEngine's hypercube)."""
    first = -(kernel_size // 2) if kernel_size % 2 else 0
    return list(range(first, first + kernel_size))


def submanifold_pairs(keys: Int64[Tensor, " n"], kernel_size: int, step: int, dilation: int) -> Pairs:
    """Pairs of a stride-1 convolution with odd kernel: sorted ``keys`` on a grid of ``step`` voxels to themselves."""
    volume = kernel_size**3
    if volume == 1:
        rows = torch.arange(len(keys), dtype=torch.int32, device=keys.device)
        return Pairs(rows, rows, (len(keys),))
    columns = _columns(kernel_size, step * dilation, dilation, until=volume // 2)
    return _find(keys, keys, columns, step, volume, mirrored=True)


def general_pairs(
    in_keys: Int64[Tensor, " n"], out_keys: Int64[Tensor, " m"], kernel_size: int, step: int, dilation: int
) -> Pairs:
    """Pairs between any two sorted key lists: input = output + dilation * step * offset."""
    columns = _columns(kernel_size, step * dilation, dilation, until=kernel_size**3)
    return _find(in_keys, out_keys, columns, step, kernel_size**3)


def partition_pairs(
    keys: Int64[Tensor, " n"],
    coords: Int64[Tensor, "n 4"],
    parent: Int32[Tensor, " n"],
    kernel_size: int,
    step: int,
) -> Pairs:
    """Pairs of a convolution whose stride equals its even kernel size: each input has one parent and one offset.

    keys, coords, parent: of each input row.
    """
    if _halved(keys, kernel_size, step):
        return neighbours.halving_pairs(keys, parent, step.bit_length() - 1)
    place = torch.div(coords[:, 1:], step, rounding_mode="floor").remainder(kernel_size)
    index = place[:, 0] + kernel_size * (place[:, 1] + kernel_size * place[:, 2])
    order = torch.argsort(index, stable=True)
    sizes = torch.bincount(index, minlength=kernel_size**3).tolist()
    return Pairs(order.int(), parent[order], tuple(sizes))


def _halved(keys: Tensor, kernel_size: int, step: int) -> bool:
    """Whether there is compiled code."""
    return kernel_size == 2 and step & (step - 1) == 0 and keys.device.type == "cpu"


def _columns(kernel_size: int, reach: int, dilation: int, until: int) -> list[Column]:
    """The kernel's columns along z, up to the offset ``until`` in lexicographic (x, y, z) order; the centre has the
    same rank in every order of axes. With dilation, other voxels lie between a column's: each offset is one."""
    axis = [reach * offset for offset in offsets(kernel_size)]
    tall = kernel_size if dilation == 1 and kernel_size <= TALLEST else 1
    found = []
    for ix in range(kernel_size):
        for iy in range(kernel_size):
            for first in range(0, min(kernel_size, until - kernel_size * (iy + kernel_size * ix)), tall):
                last = min(first + tall, until - kernel_size * (iy + kernel_size * ix))
                slots = [ix + kernel_size * (iy + kernel_size * iz) for iz in range(first, last)]
                found.append(Column(shift(axis[ix], axis[iy], axis[first]), slots))
    return found


def _find(
    in_keys: Tensor, out_keys: Tensor, columns: Sequence[Column], step: int, volume: int, mirrored: bool = False
) -> Pairs:
    """See :func:`~ov3d_perception.sparse.neighbours.find_pairs`; on any device."""
    if in_keys.device.type == "cpu":
        return neighbours.find_pairs(in_keys, out_keys, columns, step, volume, mirrored)
    return _looked_up(in_keys, out_keys, columns, step, volume, mirrored)


def _looked_up(
    in_keys: Tensor, out_keys: Tensor, columns: Sequence[Column], step: int, volume: int, mirrored: bool
) -> Pairs:
    padded = torch.cat([in_keys, in_keys.new_full((1,), torch.iinfo(torch.int64).max)])
    rows = torch.arange(len(out_keys), dtype=torch.int32, device=in_keys.device)
    found = [(rows, rows)] * volume
    for column in columns:
        wanted = out_keys + column.shift
        position = torch.searchsorted(in_keys, wanted, out_int32=True)
        for slot in column.slots:
            hit = padded.index_select(0, position) == wanted
            outs = hit.nonzero().squeeze(1).int()
            found[slot] = position.index_select(0, outs), outs
            if mirrored:
                found[volume - 1 - slot] = found[slot][::-1]
            position, wanted = position + hit, wanted + step
    in_rows, out_rows = (torch.cat(part) for part in zip(*found, strict=True))
    return Pairs(in_rows, out_rows, tuple(len(part) for part, _ in found))
