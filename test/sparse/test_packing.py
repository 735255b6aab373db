"""Kernels laid out by compiled code are what PyTorch lays out."""

from __future__ import annotations

import pytest
import torch

from ov3d_perception.sparse import kernels
from ov3d_perception.sparse.packing import pack_step, packed
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
