"""Distinct keys are those that PyTorch finds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ov3d_perception.sparse.keys import LIMIT, MAX_BATCH, pack
from ov3d_perception.sparse.unique import unique_keys


def check(coords: torch.Tensor) -> None:
    keys = pack(coords)
    found, place = unique_keys(keys)
    expected, inverse = torch.unique(keys, return_inverse=True)
    assert torch.equal(found, expected) and torch.equal(place, inverse.int())


def test_by_hand() -> None:
    keys = pack(torch.tensor([[0, 1, 0, 0], [0, 0, 5, 0], [0, 1, 0, 0], [0, 0, 0, 9]]))
    found, place = unique_keys(keys)
    assert torch.equal(found, keys[[3, 1, 0]]) and place.tolist() == [2, 1, 2, 0]


@given(st.integers(0, 10_000), st.integers(1, 300), st.sampled_from([0, 1, 30, 3000, LIMIT]))
@settings(max_examples=40)
def test_equals_a_comparing_sort(seed: int, count: int, reach: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    coords = torch.randint(-reach, reach + 1, (count, 4), generator=generator)
    coords[:, 0] = coords[:, 0].remainder(MAX_BATCH if seed % 2 else 2)
    check(coords)


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_the_extremes_of_an_axis(axis: int) -> None:
    coords = torch.zeros(3, 4, dtype=torch.int64)
    coords[:, axis] = torch.tensor([MAX_BATCH - 1, 0, 1] if axis == 0 else [LIMIT, -LIMIT, 0])
    check(coords)


def test_nothing() -> None:
    found, place = unique_keys(torch.zeros(0, dtype=torch.int64))
    assert len(found) == len(place) == 0
