"""Whole networks against the same built of MinkowskiEngine's modules, on random voxels and on a real scan."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from real_data import data_dir
from torch import Tensor, nn

from ov3d_perception.errors import BackendError
from ov3d_perception.networks.checkpoint import CheckpointInfo
from ov3d_perception.networks.minkunet import BasicBlock, MinkUNet
from ov3d_perception.sparse import BatchNorm, Conv3d, ConvTranspose3d, SparseTensor, quantize
from ov3d_perception.sparse.backends.minkowski import load_library
from ov3d_perception.types import EncoderIdentity

try:
    ME = load_library()
except BackendError as error:
    pytest.skip(str(error), allow_module_level=True)


class Softplus(nn.Module):
    """log(1 + exp(features)) of our tensors."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        return x.replace(nn.functional.softplus(x.feats))


class TheirBlock(nn.Module):
    """A residual block of MinkowskiEngine's modules."""

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        for name, child in block.named_children():
            self.add_module(name, converted(child))

    def forward(self, x: Any) -> Any:
        out = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        return self.relu(out + (self.downsample(x) if hasattr(self, "downsample") else x))


class TheirUNet(nn.Module):
    """The U-Net in MinkowskiEngine's own tensors; gives the narrow features and those after the head."""

    def __init__(self, network: MinkUNet) -> None:
        super().__init__()
        for name, child in network.named_children():
            self.add_module(name, converted(child))

    def forward(self, x: Any) -> tuple[Any, Any]:
        relu = self.relu
        skip1 = relu(self.bn0(self.conv0p1s1(x)))
        skip2 = self.block1(relu(self.bn1(self.conv1p1s2(skip1))))
        skip4 = self.block2(relu(self.bn2(self.conv2p2s2(skip2))))
        skip8 = self.block3(relu(self.bn3(self.conv3p4s2(skip4))))
        out = self.block4(relu(self.bn4(self.conv4p8s2(skip8))))
        out = self.block5(ME.cat(relu(self.bntr4(self.convtr4p16s2(out))), skip8))
        out = self.block6(ME.cat(relu(self.bntr5(self.convtr5p8s2(out))), skip4))
        out = self.block7(ME.cat(relu(self.bntr6(self.convtr6p4s2(out))), skip2))
        out = self.block8(ME.cat(relu(self.bntr7(self.convtr7p2s2(out))), skip1))
        return out, self.final(out)


def converted(module: nn.Module) -> nn.Module:
    """The module of MinkowskiEngine for one of ours, untrained."""
    if isinstance(module, BasicBlock):
        return TheirBlock(module)
    if isinstance(module, nn.Sequential):
        return nn.Sequential(*map(converted, module))
    if isinstance(module, BatchNorm):
        return ME.MinkowskiBatchNorm(module.bn.num_features, eps=module.bn.eps, momentum=module.bn.momentum)
    if isinstance(module, (Conv3d, ConvTranspose3d)):
        layer = ME.MinkowskiConvolution if isinstance(module, Conv3d) else ME.MinkowskiConvolutionTranspose
        sizes = {"kernel_size": module.kernel_size, "stride": module.stride, "dilation": module.dilation}
        channels = module.in_channels, module.out_channels
        return layer(*channels, **sizes, bias=module.bias is not None, dimension=3)
    return ME.MinkowskiReLU()


def network_pair(arch: str, train: bool) -> tuple[MinkUNet, TheirUNet]:
    """Both with the same weights and running statistics, which each could load from the other."""
    torch.manual_seed(0)
    ours = MinkUNet(arch, 3, 64)
    for module in ours.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    theirs = TheirUNet(ours)
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    return ours.train(train), theirs.train(train)


def random_cloud() -> tuple[Tensor, Tensor]:
    """Two samples of bumpy ground, half of all coordinates negative, in random order."""
    generator = torch.Generator().manual_seed(0)
    coords = torch.randint(-26, 26, (3000, 4), generator=generator)
    coords[:, 0] = coords[:, 0].remainder(2)
    coords[:, 3] = ((coords[:, 1] * 0.2).sin() * 6 + (coords[:, 3] / 16)).long()
    coords = coords.unique(dim=0)
    coords = coords[torch.randperm(len(coords), generator=generator)]
    return coords, torch.randn(len(coords), 3, generator=generator)


def real_cloud(radius: float) -> tuple[Tensor, Tensor]:
    """A SemanticKITTI scan at 10 cm as far as ``radius``; features are ones, intensity and height."""
    data = data_dir()
    if data is None:
        pytest.skip("no real data: set OV3D_TEST_DATA or put it in ../shared/data")
    scan = np.fromfile(data / "semantickitti/sequences/00/velodyne/000000.bin", np.float32).reshape(-1, 4)
    points = torch.from_numpy(scan[np.abs(scan[:, :3]).max(axis=1) < radius])
    feats = torch.stack([torch.ones(len(points)), points[:, 3], points[:, 2]], dim=1)
    return quantize(points[:, :3], 0.1, feats)[:2]


def rows_of(coords: Tensor, of: Tensor) -> Tensor:
    """The row in ``of`` of each row of ``coords``."""
    rows = {tuple(c): i for i, c in enumerate(of.tolist())}
    assert len(rows) == len(coords)
    return torch.tensor([rows[tuple(c)] for c in coords.tolist()])


def assert_near(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """The largest difference is small beside the largest value."""
    assert actual.shape == expected.shape
    assert float((actual - expected).detach().abs().max()) <= tolerance * float(expected.detach().abs().max())


def gradients(network: nn.Module, x: Tensor, wide: Tensor) -> list[Tensor]:
    """Of a fixed random projection of the features after the head: the input's and all parameters'."""
    weights = torch.randn(wide.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return list(torch.autograd.grad((wide * weights.to(wide.dtype)).mean(), [x, *network.parameters()]))


def check_forward(arch: str, train: bool, coords: Tensor, feats: Tensor, backends: tuple[str, ...]) -> None:
    ours, theirs = network_pair(arch, train)
    with torch.no_grad():
        expected_z, expected = theirs(ME.SparseTensor(feats, coords.int()))
        rows = rows_of(coords, expected.C.long())
        for backend in backends:
            z = ours(SparseTensor(feats, coords, backend=backend))
            assert torch.equal(z.coords, coords)
            assert_near(z.feats, expected_z.F[rows], 1e-5)
            assert_near(ours.head(z.feats), expected.F[rows], 1e-5)


def check_gradients(ours: MinkUNet, theirs: TheirUNet, coords: Tensor, feats: Tensor, tolerance: float) -> None:
    x = feats.clone().requires_grad_()
    _, out = theirs(ME.SparseTensor(x, coords.int()))
    expected = gradients(theirs, x, out.F[rows_of(coords, out.C.long())])
    for backend in ("torch", "minkowski"):
        x = feats.clone().requires_grad_()
        actual = gradients(ours, x, ours.head(ours(SparseTensor(x, coords, backend=backend)).feats))
        for one, other in zip(actual, expected, strict=True):
            assert_near(one, other, tolerance)


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("arch", ["MinkUNet18A", "MinkUNet34C"])
def test_forward_on_random_voxels(arch: str, train: bool) -> None:
    check_forward(arch, train, *random_cloud(), ("torch", "minkowski"))


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["MinkUNet18A", "MinkUNet34C"])
def test_forward_on_a_real_scan(arch: str) -> None:
    """All of it: 60,000 voxels."""
    coords, feats = real_cloud(100.0)
    assert len(coords) > 50_000
    check_forward(arch, False, coords, feats, ("torch",))


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["MinkUNet18A", "MinkUNet34C"])
def test_forward_in_training_on_a_real_scan(arch: str) -> None:
    check_forward(arch, True, *real_cloud(8.0), ("torch", "minkowski"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cloud", "train"), [(random_cloud, False), (partial(real_cloud, 4.0), True)], ids=["random-eval", "real-train"]
)
@pytest.mark.parametrize("arch", ["MinkUNet18A", "MinkUNet34C"])
def test_gradients(arch: str, cloud: Callable[[], tuple[Tensor, Tensor]], train: bool) -> None:
    """In float64, for a ReLU's derivative jumps: the rounding of float32 moves a few activations across zero, which
    changes MinkowskiEngine's own gradients by a hundredth."""
    ours, theirs = network_pair(arch, train)
    coords, feats = cloud()
    check_gradients(ours.double(), theirs.double(), coords, feats.double(), 1e-9)


@pytest.mark.parametrize("arch", ["MinkUNet18A", "MinkUNet34C"])
def test_gradients_in_float32(arch: str) -> None:
    """With an activation whose derivative does not jump."""
    ours, theirs = network_pair(arch, train=True)
    for module in ours.modules():
        if hasattr(module, "relu"):
            module.relu = Softplus()
    for module in theirs.modules():
        if hasattr(module, "relu"):
            module.relu = ME.MinkowskiSoftplus()
    check_gradients(ours, theirs, *random_cloud(), 1e-3)


def test_point_voxel_network_on_minkowski_engine() -> None:
    """Pooling and points are ours, on MinkowskiEngine's voxels."""
    torch.manual_seed(0)
    identity = EncoderIdentity("tiny", "street", 16)
    network = CheckpointInfo("SPVCNN", 0.25, ("ones", "intensity", "height"), 0.1, identity).build().eval()
    coords, feats = random_cloud()
    with torch.no_grad():
        expected = network(SparseTensor(feats, coords)).feats
        assert_near(network(SparseTensor(feats, coords, backend="minkowski")).feats, expected, 1e-5)
