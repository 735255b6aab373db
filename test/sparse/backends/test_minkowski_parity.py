"""Every kind of convolution against the same layer in MinkowskiEngine: weights, voxels, results, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from real_data import data_dir
from torch import Tensor, nn

from ov3d_perception.errors import BackendError
from ov3d_perception.sparse import Conv3d, ConvTranspose3d, SparseTensor, quantize
from ov3d_perception.sparse.backends.minkowski import load_library

try:
    ME = load_library()
except BackendError as error:
    pytest.skip(str(error), allow_module_level=True)

KINDS = [
    (Conv3d, kernel_size, stride, dilation)
    for kernel_size, stride, dilation in [
        (1, 1, 1), (2, 1, 1), (3, 1, 1), (5, 1, 1), (3, 1, 2), (5, 1, 2), (2, 1, 2),
        (1, 2, 1), (2, 2, 1), (3, 2, 1), (5, 2, 1), (3, 2, 2), (2, 2, 2), (3, 3, 1), (4, 4, 1),
    ]
] + [
    (ConvTranspose3d, kernel_size, stride, dilation)
    for kernel_size, stride, dilation in [(2, 2, 1), (3, 2, 1), (5, 2, 1), (3, 2, 2), (1, 2, 1), (3, 1, 1), (4, 4, 1)]
]  # fmt: skip


def random_cloud(seed: int = 0) -> Tensor:
    """Two samples in random order, half of all coordinates negative."""
    generator = torch.Generator().manual_seed(seed)
    coords = torch.randint(-10, 10, (2000, 4), generator=generator)
    coords[:, 0] = coords[:, 0].remainder(2)
    coords = coords.unique(dim=0)
    return coords[torch.randperm(len(coords), generator=generator)]


def real_cloud(voxel_size: float = 0.1, radius: float = 12.0) -> Tensor:
    """The middle of a SemanticKITTI scan."""
    data = data_dir()
    if data is None:
        pytest.skip("no real data: set OV3D_TEST_DATA or put it in ../shared/data")
    scan = np.fromfile(data / "semantickitti/sequences/00/velodyne/000000.bin", np.float32).reshape(-1, 4)[:, :3]
    xyz = torch.from_numpy(scan[np.abs(scan).max(axis=1) < radius])
    return quantize(xyz, voxel_size, xyz)[0]


def theirs_like(ours: Conv3d | ConvTranspose3d) -> Any:
    """The layer of MinkowskiEngine with our weights."""
    layer = ME.MinkowskiConvolution if isinstance(ours, Conv3d) else ME.MinkowskiConvolutionTranspose
    theirs = layer(
        ours.in_channels,
        ours.out_channels,
        kernel_size=ours.kernel_size,
        stride=ours.stride,
        dilation=ours.dilation,
        bias=ours.bias is not None,
        dimension=3,
    )
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    return theirs


def rows_of(coords: Tensor, of: Tensor) -> Tensor:
    """The row in ``of`` of each row of ``coords``; both hold the same voxels."""
    assert torch.equal(coords.unique(dim=0), of.unique(dim=0)) and len(coords) == len(of)
    rows = {tuple(c): i for i, c in enumerate(of.tolist())}
    return torch.tensor([rows[tuple(c)] for c in coords.tolist()])


def assert_near(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    assert actual.shape == expected.shape
    assert float((actual - expected).detach().abs().max()) <= tolerance * float(expected.detach().abs().max())


def compare(layers: list[Conv3d | ConvTranspose3d], coords: Tensor, backend: str) -> None:
    """Forward and all gradients of a sequence of layers."""
    generator = torch.Generator().manual_seed(1)
    feats = torch.randn(len(coords), layers[0].in_channels, generator=generator)
    ours, theirs = nn.Sequential(*layers), nn.Sequential(*map(theirs_like, layers))
    inputs = [feats.clone().requires_grad_() for _ in range(2)]
    expected = theirs(ME.SparseTensor(inputs[0], coords.int()))
    actual = ours(SparseTensor(inputs[1], coords, backend=backend))
    assert [actual.stride] * 3 == expected.tensor_stride
    rows = rows_of(actual.coords, expected.C.long())
    assert_near(actual.feats, expected.F[rows], 1e-5)
    weights = torch.randn(actual.feats.shape, generator=generator)
    (actual.feats * weights).sum().backward()
    (expected.F[rows] * weights).sum().backward()
    assert_near(inputs[1].grad, inputs[0].grad, 1e-5)
    for ours_one, theirs_one in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_near(ours_one.grad, theirs_one.grad, 1e-5)


def layers_of(kind: type, kernel_size: int, stride: int, dilation: int, channels: int = 6) -> list[Any]:
    """The layer; before a transposed one, a convolution that makes the coarser voxels."""
    torch.manual_seed(0)
    layer = kind(channels, 5, kernel_size, stride=stride, dilation=dilation, bias=True)
    nn.init.normal_(layer.bias)
    if kind is Conv3d or stride == 1:
        return [layer]
    return [Conv3d(3, channels, 3, stride=stride), layer]


@pytest.mark.parametrize("backend", ["torch", "minkowski"])
@pytest.mark.parametrize(("kind", "kernel_size", "stride", "dilation"), KINDS)
def test_layer_on_random_voxels(kind: type, kernel_size: int, stride: int, dilation: int, backend: str) -> None:
    compare(layers_of(kind, kernel_size, stride, dilation), random_cloud(), backend)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_few_input_channels(channels: int) -> None:
    compare(layers_of(Conv3d, 5, 1, 1, channels), random_cloud(), "torch")


@pytest.mark.parametrize("backend", ["torch", "minkowski"])
@pytest.mark.parametrize(
    ("kind", "kernel_size", "stride"), [(Conv3d, 5, 1), (Conv3d, 2, 2), (Conv3d, 3, 2), (ConvTranspose3d, 2, 2)]
)
def test_layer_on_a_real_scan(kind: type, kernel_size: int, stride: int, backend: str) -> None:
    compare(layers_of(kind, kernel_size, stride, 1), real_cloud(), backend)


@pytest.mark.parametrize("backend", ["torch", "minkowski"])
def test_two_levels_down_and_up_again(backend: str) -> None:
    """The coarser levels' steps, dilated, and back to voxels that are there already."""
    torch.manual_seed(0)
    layers = [
        Conv3d(3, 6, 2, stride=2), Conv3d(6, 6, 3, dilation=2), Conv3d(6, 8, 3, stride=2), Conv3d(8, 8, 5),
        ConvTranspose3d(8, 6, 2), Conv3d(6, 6, 3), ConvTranspose3d(6, 4, 3),
    ]  # fmt: skip
    compare(layers, random_cloud(), backend)


def test_a_tensor_that_starts_on_a_coarser_grid() -> None:
    coords = random_cloud()
    coords[:, 1:] *= 4
    feats = torch.randn(len(coords), 6)
    layer = Conv3d(6, 5, 3, stride=2)
    expected = theirs_like(layer)(ME.SparseTensor(feats, coords.int(), tensor_stride=4))
    for backend in ("torch", "minkowski"):
        actual = layer(SparseTensor(feats, coords, stride=4, backend=backend))
        assert actual.stride == 8
        assert_near(actual.feats, expected.F[rows_of(actual.coords, expected.C.long())], 1e-5)
