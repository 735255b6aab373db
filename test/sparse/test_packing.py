"""Kernels and features laid out by compiled code are what PyTorch lays out."""

from __future__ import annotations

import pytest
import torch

from ov3d_perception.sparse import kernels
from ov3d_perception.sparse.packing import pack_step, packed, round_step
from ov3d_perception.sparse.steps import run_steps


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("volume", "channels", "columns"), [(27, 16, 48), (8, 64, 20), (125, 3, 32)])
def test_packed_in_a_step(volume: int, channels: int, columns: int, transposed: bool, dtype: torch.dtype) -> None:
    if transposed and channels % 2:
        pytest.skip("the network's inputs have no gradient")
    if dtype == torch.bfloat16 and not kernels.host().dot:
        pytest.skip("no instructions for pairs of bfloat16")
    kernel = torch.randn(volume, channels, columns)
    panels = torch.full((kernel.numel(),), torch.nan)
    run_steps([pack_step(kernel, panels.data_ptr(), transposed, dtype)], 0)
    expected = packed((kernel.transpose(1, 2) if transposed else kernel).to(dtype)).flatten()
    found = panels.view(torch.uint8)[: expected.numel() * expected.element_size()]
    assert torch.equal(found, expected.view(torch.uint8))


@pytest.mark.parametrize(("rows", "channels"), [(3000, 48), (1, 20), (1025, 8)])
def test_rounded_rows(rows: int, channels: int) -> None:
    """To the nearest, of two as near to the even one; in a part of wider rows."""
    source, target = torch.randn(rows, channels + 4), torch.zeros(rows, channels + 8, dtype=torch.bfloat16)
    source[0, 4] = 1.00390625  # halfway between 1 and 1.0078125
    places = (source[:, 4:].data_ptr(), channels + 4), (target[:, 8:].data_ptr(), channels + 8)
    run_steps([round_step(*places, rows, channels)], 0)
    assert torch.equal(target[:, 8:], source[:, 4:].bfloat16()) and not target[:, :8].any()
