"""Sparse convolutions against PyTorch's dense ones on densified grids."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv3d, conv_transpose3d, pad

from ov3d_perception.sparse import Conv3d, ConvTranspose3d, SparseTensor

GRID = 12
ORIGIN = -5
"""Grids cover ORIGIN .. ORIGIN + GRID - 1 along each axis, so that negative coordinates and odd borders occur."""


def random_voxels(channels: int, batch: int = 2, occupancy: float = 0.15, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Coordinates in random order, in the grid and away from its border by 2, and features."""
    generator = torch.Generator().manual_seed(seed)
    occupied = torch.rand((batch, GRID - 4, GRID - 4, GRID - 4), generator=generator) < occupancy
    coords = occupied.nonzero()
    coords[:, 1:] += ORIGIN + 2
    coords = coords[torch.randperm(len(coords), generator=generator)]
    return coords, torch.randn((len(coords), channels), generator=generator, dtype=torch.float64)


def densify(feats: Tensor, coords: Tensor, batch: int = 2, origin: int = ORIGIN, size: int = GRID) -> Tensor:
    """(batch, C, z, y, x): the kernel's x-fastest order is then PyTorch's (kz, ky, kx)."""
    dense = feats.new_zeros(batch, feats.shape[1], size, size, size)
    b, x, y, z = coords.unbind(1)
    dense[b, :, z - origin, y - origin, x - origin] = feats
    return dense


def sample(dense: Tensor, coords: Tensor, origin: int = ORIGIN) -> Tensor:
    b, x, y, z = coords.unbind(1)
    return dense[b, :, z - origin, y - origin, x - origin]


def dense_kernel(layer: Conv3d | ConvTranspose3d) -> Tensor:
    """(out, in, kz, ky, kx)."""
    k = layer.kernel_size
    kernel = layer.kernel.reshape(k, k, k, layer.in_channels, layer.out_channels)
    return kernel.permute(4, 3, 0, 1, 2)


@pytest.mark.parametrize("channels", [3, 7])
@pytest.mark.parametrize(("kernel_size", "dilation"), [(1, 1), (3, 1), (5, 1), (3, 2)])
def test_submanifold_convolution_equals_dense(kernel_size: int, dilation: int, channels: int) -> None:
    coords, feats = random_voxels(channels)
    layer = Conv3d(channels, 5, kernel_size, dilation=dilation, bias=True).double()
    torch.nn.init.normal_(layer.bias)
    out = layer(SparseTensor(feats, coords))
    padding = dilation * (kernel_size // 2)
    expected = conv3d(densify(feats, coords), dense_kernel(layer), layer.bias[0], padding=padding, dilation=dilation)
    assert torch.equal(out.coords, coords)
    torch.testing.assert_close(out.feats, sample(expected, coords))


@pytest.mark.parametrize("kernel_size", [2, 3])
@pytest.mark.parametrize("stride", [2, 3])
def test_strided_convolution_equals_dense(kernel_size: int, stride: int) -> None:
    coords, feats = random_voxels(6)
    layer = Conv3d(6, 4, kernel_size, stride=stride).double()
    out = layer(SparseTensor(feats, coords))
    corners = torch.div(coords[:, 1:], stride, rounding_mode="floor") * stride
    expected_coords = torch.cat([coords[:, :1], corners], dim=1).unique(dim=0)
    assert torch.equal(out.coords.unique(dim=0), expected_coords) and len(out) == len(expected_coords)
    assert out.stride == stride
    origin = -2 * stride * 2
    size = 6 * stride + GRID
    reach = kernel_size // 2 if kernel_size % 2 else 0
    dense = pad(densify(feats, coords, origin=origin, size=size), [reach, kernel_size] * 3)
    full = conv3d(dense, dense_kernel(layer))
    torch.testing.assert_close(out.feats, sample(full, out.coords, origin))


def test_even_kernel_with_stride_one_covers_zero_to_k_minus_one() -> None:
    coords, feats = random_voxels(6)
    layer = Conv3d(6, 4, 2).double()
    out = layer(SparseTensor(feats, coords))
    full = conv3d(pad(densify(feats, coords), [0, 1] * 3), dense_kernel(layer))
    torch.testing.assert_close(out.feats, sample(full, out.coords))


@pytest.mark.parametrize("kernel_size", [2, 3])
def test_transposed_convolution_equals_dense_on_the_finer_voxels(kernel_size: int) -> None:
    coords, feats = random_voxels(5)
    fine = SparseTensor(feats, coords)
    coarse = Conv3d(5, 6, 2, stride=2).double()(fine)
    layer = ConvTranspose3d(6, 4, kernel_size, stride=2).double()
    out = layer(coarse)
    assert torch.equal(out.coords, coords) and out.stride == 1
    halved = coarse.coords.clone()
    halved[:, 1:] //= 2
    origin = -4
    dense = densify(coarse.feats, halved, origin=origin, size=10)
    full = conv_transpose3d(dense, dense_kernel(layer).transpose(0, 1), stride=2)
    first = 2 * origin - (kernel_size // 2 if kernel_size % 2 else 0)
    torch.testing.assert_close(out.feats, sample(full, coords, first))


def test_second_level_steps_over_two_voxels() -> None:
    coords, feats = random_voxels(5)
    coarse = Conv3d(5, 6, 2, stride=2).double()(SparseTensor(feats, coords))
    layer = Conv3d(6, 4, 3).double()
    out = layer(coarse)
    halved = coarse.coords.clone()
    halved[:, 1:] //= 2
    dense = densify(coarse.feats, halved, origin=-5, size=12)
    expected = conv3d(dense, dense_kernel(layer), padding=1)
    torch.testing.assert_close(out.feats, sample(expected, halved, -5))


@pytest.mark.parametrize("channels", [2, 5])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_gradients_equal_dense(channels: int, kernel_size: int) -> None:
    coords, feats = random_voxels(channels)
    layer = Conv3d(channels, 4, kernel_size).double()
    weights = torch.randn(len(coords), 4, dtype=torch.float64)
    grads = []
    for dense in (False, True):
        inputs = feats.clone().requires_grad_()
        layer.zero_grad()
        if dense:
            full = conv3d(densify(inputs, coords), dense_kernel(layer), padding=kernel_size // 2)
            out = sample(full, coords)
        else:
            out = layer(SparseTensor(inputs, coords)).feats
        (out * weights).sum().backward()
        grads.append((inputs.grad, layer.kernel.grad.clone()))
    torch.testing.assert_close(grads[0], grads[1])


def test_kernel_gradient_alone_equals_the_one_beside_the_feature_gradient() -> None:
    coords, feats = random_voxels(2)
    layer = Conv3d(2, 4, 3).double()
    grads = []
    for needs_grad in (False, True):
        layer.zero_grad()
        layer(SparseTensor(feats.clone().requires_grad_(needs_grad), coords)).feats.square().sum().backward()
        grads.append(layer.kernel.grad.clone())
    torch.testing.assert_close(grads[0], grads[1])


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
def test_gradcheck(stride: int, transposed: bool) -> None:
    coords, feats = random_voxels(5, occupancy=0.03)
    down = Conv3d(5, 3, 2 if stride == 2 else 3, stride=stride).double()
    up = ConvTranspose3d(3, 2, 2, stride=2).double()

    def function(inputs: Tensor, *kernels: Tensor) -> Tensor:
        out = torch.func.functional_call(down, {"kernel": kernels[0]}, (SparseTensor(inputs, coords),))
        if transposed and stride == 2:
            out = torch.func.functional_call(up, {"kernel": kernels[1]}, (out,))
        return out.feats

    kernels = [down.kernel.detach().requires_grad_(), up.kernel.detach().requires_grad_()]
    assert torch.autograd.gradcheck(function, (feats.requires_grad_(), *kernels[: 1 + (transposed and stride == 2)]))
