"""MinkUNet (Choy et al., 4D Spatio-Temporal ConvNets, CVPR 2019), with MinkowskiEngine's module names.

A state_dict of OpenScene's or GGSD's network therefore fits by name, once its ``module.`` or ``net3d.`` prefix is off.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ov3d_perception.sparse import (
    BatchNorm,
    Conv3d,
    ConvTranspose3d,
    ReLU,
    SparseTensor,
    Stencil,
    cat,
    convolve_normalised,
    multiply,
    planned_in_training,
)


@dataclass(frozen=True)
class Architecture:
    """planes: channels of the four down and four up stages; layers: residual blocks of each; stem: first channels."""

    planes: tuple[int, ...]
    layers: tuple[int, ...]
    stem: int = 32


ARCHITECTURES = {
    "MinkUNet14A": Architecture((32, 64, 128, 256, 128, 128, 96, 96), (1, 1, 1, 1, 1, 1, 1, 1)),
    "MinkUNet18A": Architecture((32, 64, 128, 256, 128, 128, 96, 96), (2, 2, 2, 2, 2, 2, 2, 2)),
    "MinkUNet18B": Architecture((32, 64, 128, 256, 128, 128, 128, 128), (2, 2, 2, 2, 2, 2, 2, 2)),
    "MinkUNet34A": Architecture((32, 64, 128, 256, 256, 128, 64, 64), (2, 3, 4, 6, 2, 2, 2, 2)),
    "MinkUNet34C": Architecture((32, 64, 128, 256, 256, 128, 96, 96), (2, 3, 4, 6, 2, 2, 2, 2)),
}
"""By MinkowskiEngine's names (examples/minkunet.py); SLidR's Res16UNet34C has the channels of MinkUNet34C."""


_LEVELS = (1, 2, 4, 8)
_STENCILS = [s for t in _LEVELS for s in (Stencil(t, 2 * t, 2), Stencil(2 * t, 2 * t, 3))] + [Stencil(1, 1, 3)]
"""Kernel maps in the order in which they are wanted, but for the stem's."""


def scaled(channels: int, width: float) -> int:
    """``channels * width`` rounded to a multiple of 8, at least 8."""
    return max(8, round(channels * width / 8) * 8)


def append_one(features: Float[Tensor, "n c"]) -> Float[Tensor, "n d"]:
    """One more channel, of ones: a linear map of the result has a bias."""
    return torch.cat([features, torch.ones_like(features[:, :1])], dim=1)


class BasicBlock(nn.Module):
    """Two 3x3x3 convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = Conv3d(in_channels, channels, kernel_size=3)
        self.norm1 = BatchNorm(channels)
        self.conv2 = Conv3d(channels, channels, kernel_size=3)
        self.norm2 = BatchNorm(channels)
        self.relu = ReLU(inplace=True)
        self.downsample: nn.Sequential | None = None
        if in_channels != channels:
            self.downsample = nn.Sequential(Conv3d(in_channels, channels, kernel_size=1), BatchNorm(channels))

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(N, in) -> (N, channels) on the same voxels."""
        out = convolve_normalised(self.conv1, self.norm1, self.relu, x)
        return convolve_normalised(self.conv2, self.norm2, self.relu, out, x, self.downsample)


class MinkUNet(nn.Module):
    """U-Net of sparse residual blocks: stem of size 5, four halvings, four doublings with skip connections.

    arch: a key of :data:`ARCHITECTURES`; in_channels: input features a voxel; out_channels: dimension of the linear
    head ``final``, that of the image-text space; width: factor on all channels; head_bias: the head adds a constant,
    as some other releases' do: z then ends in a channel of ones, and the head remains the one matrix ``basis``.
    ``forward`` gives the point features z; :meth:`head` takes them to the image-text space.
    """

    def __init__(
        self, arch: str, in_channels: int, out_channels: int, width: float = 1.0, head_bias: bool = False
    ) -> None:
        super().__init__()
        if arch not in ARCHITECTURES:
            raise ValueError(f"Unknown architecture {arch!r}; known are {', '.join(ARCHITECTURES)}")
        self.arch, self.in_channels, self.out_channels, self.width = arch, in_channels, out_channels, width
        self.head_bias = head_bias
        design = ARCHITECTURES[arch]
        p = [scaled(channels, width) for channels in design.planes]
        n = design.layers
        stem = scaled(design.stem, width)

        self.conv0p1s1, self.bn0 = Conv3d(in_channels, stem, kernel_size=5), BatchNorm(stem)
        self.conv1p1s2, self.bn1 = Conv3d(stem, stem, kernel_size=2, stride=2), BatchNorm(stem)
        self.block1 = _stage(stem, p[0], n[0])
        self.conv2p2s2, self.bn2 = Conv3d(p[0], p[0], kernel_size=2, stride=2), BatchNorm(p[0])
        self.block2 = _stage(p[0], p[1], n[1])
        self.conv3p4s2, self.bn3 = Conv3d(p[1], p[1], kernel_size=2, stride=2), BatchNorm(p[1])
        self.block3 = _stage(p[1], p[2], n[2])
        self.conv4p8s2, self.bn4 = Conv3d(p[2], p[2], kernel_size=2, stride=2), BatchNorm(p[2])
        self.block4 = _stage(p[2], p[3], n[3])
        self.convtr4p16s2, self.bntr4 = ConvTranspose3d(p[3], p[4], kernel_size=2), BatchNorm(p[4])
        self.block5 = _stage(p[4] + p[2], p[4], n[4])
        self.convtr5p8s2, self.bntr5 = ConvTranspose3d(p[4], p[5], kernel_size=2), BatchNorm(p[5])
        self.block6 = _stage(p[5] + p[1], p[5], n[5])
        self.convtr6p4s2, self.bntr6 = ConvTranspose3d(p[5], p[6], kernel_size=2), BatchNorm(p[6])
        self.block7 = _stage(p[6] + p[0], p[6], n[6])
        self.convtr7p2s2, self.bntr7 = ConvTranspose3d(p[6], p[7], kernel_size=2), BatchNorm(p[7])
        self.block8 = _stage(p[7] + stem, p[7], n[7])
        self.final = Conv3d(p[7] + head_bias, out_channels, kernel_size=1)
        self.relu = ReLU(inplace=True)

    @planned_in_training
    def forward(self, x: SparseTensor) -> SparseTensor:
        """(N, in_channels) -> point features z (N, feature_dim) on the same voxels."""
        x.manager.expect(_STENCILS, x.feats)
        relu = self.relu
        skip1 = convolve_normalised(self.conv0p1s1, self.bn0, relu, x)
        skip2 = self.block1(convolve_normalised(self.conv1p1s2, self.bn1, relu, skip1))
        skip4 = self.block2(convolve_normalised(self.conv2p2s2, self.bn2, relu, skip2))
        skip8 = self.block3(convolve_normalised(self.conv3p4s2, self.bn3, relu, skip4))
        out = self.block4(convolve_normalised(self.conv4p8s2, self.bn4, relu, skip8))
        out = self.block5(cat([convolve_normalised(self.convtr4p16s2, self.bntr4, relu, out), skip8]))
        out = self.block6(cat([convolve_normalised(self.convtr5p8s2, self.bntr5, relu, out), skip4]))
        out = self.block7(cat([convolve_normalised(self.convtr6p4s2, self.bntr6, relu, out), skip2]))
        out = self.block8(cat([convolve_normalised(self.convtr7p2s2, self.bntr7, relu, out), skip1]))
        return out.replace(append_one(out.feats)) if self.head_bias else out

    def head(self, features: Float[Tensor, "n c"]) -> Float[Tensor, "n d"]:
        """Point features to the image-text space (not normalised)."""
        return multiply(features, self.final.kernel)

    @property
    def basis(self) -> Float[Tensor, "c d"]:
        """The linear head's matrix W: ``head(z) = z @ W``."""
        return self.final.kernel

    @property
    def feature_dim(self) -> int:
        """Channels of the point features."""
        return self.final.in_channels


def _stage(in_channels: int, channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(BasicBlock(in_channels if i == 0 else channels, channels) for i in range(blocks)))
