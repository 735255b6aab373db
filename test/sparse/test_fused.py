"""Convolution, norm, shortcut and activation in one pass are what they are one by one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ov3d_perception.errors import BackendError
from ov3d_perception.networks.folding import fold_batch_norm
from ov3d_perception.sparse import BatchNorm, Conv3d, ConvTranspose3d, ReLU, SparseTensor, convolve_normalised
from ov3d_perception.sparse.backends.minkowski import load_library


def cloud(channels: int) -> SparseTensor:
    generator = torch.Generator().manual_seed(0)
    coords = torch.randint(-6, 6, (300, 4), generator=generator)
    coords[:, 0] = 0
    coords = coords.unique(dim=0)
    return SparseTensor(torch.randn(len(coords), channels, generator=generator), coords)


class Layers(nn.Module):
    """One convolution of each kind, with all that can follow it."""

    def __init__(self, channels: int, bias: bool) -> None:
        super().__init__()
        self.conv1, self.norm1 = Conv3d(channels, 16, 3, bias=bias), BatchNorm(16)
        self.conv2, self.norm2 = Conv3d(16, 16, 2, stride=2, bias=bias), BatchNorm(16)
        self.convtr3, self.bntr3 = ConvTranspose3d(16, 8, 2, bias=bias), BatchNorm(8)
        self.downsample = nn.Sequential(Conv3d(channels, 8, 1, bias=bias), BatchNorm(8))
        self.relu = ReLU(inplace=True)

    def forward(self, x: SparseTensor) -> list[SparseTensor]:
        """Of each layer; the last but one with a projected shortcut, the last with a plain one."""
        first = convolve_normalised(self.conv1, self.norm1, self.relu, x)
        second = convolve_normalised(self.conv2, self.norm2, self.relu, first)
        third = convolve_normalised(self.convtr3, self.bntr3, self.relu, second, x, self.downsample)
        return [first, second, third, convolve_normalised(self.convtr3, self.bntr3, self.relu, second, third)]


def layers(channels: int, bias: bool) -> Layers:
    torch.manual_seed(0)
    made = Layers(channels, bias).eval()
    for name, tensor in [*made.named_parameters(), *made.named_buffers()]:
        if tensor.dim() == 1 or name.endswith("bias"):
            nn.init.uniform_(tensor, 0.5, 1.5)
    return made


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("channels", [3, 8])
def test_equals_layer_by_layer(channels: int, bias: bool, folded: bool) -> None:
    made, x = layers(channels, bias), cloud(channels)
    expected = made(x)  # gradients are recorded: one by one
    before = x.feats.clone()
    with torch.no_grad():
        found = (fold_batch_norm(made) if folded else made)(x)
        assert not any(module.training for module in fold_batch_norm(made).modules())  # or it would run one by one
    for a, b in zip(found, expected, strict=True):
        assert b.feats.requires_grad and not a.feats.requires_grad and (a.feats == 0).any()
        torch.testing.assert_close(a.feats, b.feats.detach())
    assert torch.equal(x.feats, before)


def test_on_another_backend() -> None:
    try:
        load_library()
    except BackendError as error:
        pytest.skip(str(error))
    made, x = layers(8, True), cloud(8)
    other = SparseTensor(x.feats, x.coords, backend="minkowski")
    with torch.no_grad():
        for a, b in zip(made(other)[::2], made(x)[::2], strict=True):
            torch.testing.assert_close(a.feats, b.feats, atol=1e-5, rtol=1e-5)


def test_training_statistics_are_taken_without_gradients_too() -> None:
    made, x = layers(8, False), cloud(8)
    made.train()
    running = made.norm1.bn.get_buffer("running_mean")
    before = running.clone()
    with torch.no_grad():
        made(x)
    assert not torch.equal(running, before)


def test_another_activation_is_called() -> None:
    made, x = layers(8, False), cloud(8)
    with torch.no_grad():
        found = convolve_normalised(made.conv1, made.norm1, nn.Identity(), x)
        assert torch.equal(found.feats, made.norm1(made.conv1(x)).feats) and (found.feats < 0).any()
