"""Compiled code finds the pairs that looking every key up finds."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch

from ov3d_perception.sparse import neighbours, search
from ov3d_perception.sparse.keys import pack
from ov3d_perception.sparse.neighbours import Pairs
from ov3d_perception.sparse.search import general_pairs, partition_pairs, submanifold_pairs
from ov3d_perception.sparse.unique import unique_keys


def cloud(seed: int, stride: int = 1) -> torch.Tensor:
    coords = torch.randint(-5, 6, (400, 4), generator=torch.Generator().manual_seed(seed)) * stride
    coords[:, 0] = coords[:, 0].remainder(2)
    return coords.unique(dim=0)


def looked_up(in_keys: torch.Tensor, out_keys: torch.Tensor, size: int, step: int, dilation: int) -> list[set]:
    """By a dictionary."""
    rows = {int(key): row for row, key in enumerate(in_keys)}
    axis = search.offsets(size)
    found = []
    for slot in range(size**3):
        offset = [axis[slot // size**place % size] * step * dilation for place in range(3)]
        wanted = (out_keys + search.shift(*offset)).tolist()
        found.append({(rows[key], row) for row, key in enumerate(wanted) if key in rows})
    return found


def check(found: Pairs, expected: list[set]) -> None:
    assert found.sizes == tuple(map(len, expected))
    parts = zip(found.in_rows.split(found.sizes), found.out_rows.split(found.sizes), strict=True)
    for (ins, outs), wanted in zip(parts, expected, strict=True):
        assert set(zip(ins.tolist(), outs.tolist(), strict=True)) == wanted
        assert bool((ins.diff() > 0).all()) and bool((outs.diff() > 0).all())


@pytest.mark.parametrize("few", [0, 1 << 14])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_submanifold(size: int, dilation: int, few: int) -> None:
    keys = pack(cloud(size, stride=2))
    with patch.object(neighbours, "_FEW", few):
        found = submanifold_pairs(keys, size, 2, dilation)
    check(found, looked_up(keys, keys, size, 2, dilation))


@pytest.mark.parametrize("dilation", [1, 3])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_general(size: int, dilation: int) -> None:
    fine = pack(cloud(size))
    coarse, _ = unique_keys(fine & ~search.shift(1, 1, 1))
    check(general_pairs(fine, coarse, size, 1, dilation), looked_up(fine, coarse, size, 1, dilation))


@pytest.mark.parametrize("size", [3, 5])
def test_other_devices_find_the_same(size: int) -> None:
    keys = pack(cloud(size))
    columns = search._columns(size, 1, 1, until=size**3 // 2)
    with patch.object(search.neighbours, "find_pairs", side_effect=AssertionError):
        with pytest.raises(AssertionError):
            search._find(keys, keys, columns, 1, size**3, mirrored=True)
        found = search._looked_up(keys, keys, columns, 1, size**3, mirrored=True)
    check(found, looked_up(keys, keys, size, 1, 1))


@pytest.mark.parametrize("stride", [1, 4])
def test_halving(stride: int) -> None:
    coords = cloud(0, stride)
    keys = pack(coords)
    coarse, parent = unique_keys(keys & ~search.shift(2 * stride - 1, 2 * stride - 1, 2 * stride - 1))
    found = partition_pairs(keys, coords, parent, 2, stride)
    check(found, looked_up(keys, coarse, 2, stride, 1))
    with patch.object(search, "_halved", return_value=False):
        other = partition_pairs(keys, coords, parent, 2, stride)
    assert all(torch.equal(a, b) for a, b in zip(found[:2], other[:2], strict=True)) and found.sizes == other.sizes
