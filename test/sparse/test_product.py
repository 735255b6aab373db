"""A head's product by compiled code is PyTorch's, and its memory is used again."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch

from ov3d_perception.sparse import convolution
from ov3d_perception.sparse.convolution import multiply


@pytest.mark.parametrize("rows", [0, 1, 63, 64, 65, 1000])
@pytest.mark.parametrize(("channels", "columns"), [(96, 768), (97, 512), (3, 4), (32, 48)])
@pytest.mark.parametrize("threads", [1, 2])
def test_it_is_the_product(rows: int, channels: int, columns: int, threads: int) -> None:
    torch.manual_seed(0)
    feats, kernel = torch.randn(rows, channels), torch.randn(channels, columns)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad(), patch.object(torch, "mm", side_effect=AssertionError("not compiled")):
            found = multiply(feats, kernel)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, feats @ kernel, rtol=1e-5, atol=1e-4)


def test_features_that_lie_apart_and_a_kernel_that_lies_turned() -> None:
    feats, kernel = torch.randn(100, 32)[:, ::2], torch.randn(64, 16).T
    with torch.no_grad():
        torch.testing.assert_close(multiply(feats, kernel), feats @ kernel, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("columns", "dtype"), [(5, torch.float32), (64, torch.bfloat16), (64, torch.float64)])
def test_what_there_is_no_code_for_is_left_to_pytorch(columns: int, dtype: torch.dtype) -> None:
    feats, kernel = torch.randn(100, 16).to(dtype), torch.randn(16, columns).to(dtype)
    with torch.no_grad(), patch.object(convolution, "multiply_into", side_effect=AssertionError):
        torch.testing.assert_close(multiply(feats, kernel), feats @ kernel)


def test_with_gradients_it_is_differentiable() -> None:
    feats, kernel = torch.randn(10, 8), torch.randn(8, 4, requires_grad=True)
    multiply(feats, kernel).sum().backward()
    assert kernel.grad is not None
    torch.testing.assert_close(kernel.grad, feats.sum(0)[:, None].expand(8, 4))


def test_the_next_scan_s_result_takes_its_memory() -> None:
    feats, kernel = torch.randn(3001, 16), torch.randn(16, 256)
    with torch.no_grad():
        first = multiply(feats, kernel).data_ptr()
        assert multiply(feats, kernel).data_ptr() == first
