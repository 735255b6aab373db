"""MinkUNet out of MinkowskiEngine's own modules: the peer that our networks are timed against.

Same layers, names and shapes as :class:`ov3d_perception.networks.minkunet.MinkUNet`, so the state_dict is shared;
nothing of ours is in the way of the library, and its in-place activations are used.
"""

from __future__ import annotations

import collections
import collections.abc
import warnings

from torch import Tensor, nn

from ov3d_perception.networks.minkunet import ARCHITECTURES

collections.Sequence = collections.abc.Sequence  # type: ignore[attr-defined]  # MinkowskiEngine 0.5.4 expects it
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import MinkowskiEngine as ME  # noqa: N817


def convolution(in_channels: int, channels: int, size: int, stride: int = 1) -> nn.Module:
    """A convolution without bias."""
    return ME.MinkowskiConvolution(in_channels, channels, kernel_size=size, stride=stride, dimension=3)


def up(in_channels: int, channels: int) -> nn.Module:
    """A transposed convolution of size and stride 2."""
    return ME.MinkowskiConvolutionTranspose(in_channels, channels, kernel_size=2, stride=2, dimension=3)


class Block(nn.Module):
    """The residual block."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = convolution(in_channels, channels, 3), ME.MinkowskiBatchNorm(channels)
        self.conv2, self.norm2 = convolution(channels, channels, 3), ME.MinkowskiBatchNorm(channels)
        self.relu = ME.MinkowskiReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if in_channels != channels:
            self.downsample = nn.Sequential(convolution(in_channels, channels, 1), ME.MinkowskiBatchNorm(channels))

    def forward(self, x: ME.SparseTensor) -> ME.SparseTensor:
        """(N, in) -> (N, channels)."""
        out = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class MinkowskiMinkUNet(nn.Module):
    """The whole network, ``final`` included; features and ``[batch, x, y, z]`` int32 rows in."""

    def __init__(self, arch: str, in_channels: int, out_channels: int) -> None:
        super().__init__()
        p, layers, stem = ARCHITECTURES[arch].planes, ARCHITECTURES[arch].layers, ARCHITECTURES[arch].stem
        self.conv0p1s1, self.bn0 = convolution(in_channels, stem, 5), ME.MinkowskiBatchNorm(stem)
        width, skips = stem, [stem, *p[:3]]
        for level in range(4):
            self.add_module(f"conv{level + 1}p{2**level}s2", convolution(width, width, 2, 2))
            self.add_module(f"bn{level + 1}", ME.MinkowskiBatchNorm(width))
            self.add_module(f"block{level + 1}", _stage(width, p[level], layers[level]))
            width = p[level]
        for level in range(4, 8):
            self.add_module(f"convtr{level}p{2 ** (8 - level)}s2", up(width, p[level]))
            self.add_module(f"bntr{level}", ME.MinkowskiBatchNorm(p[level]))
            width = p[level]
            self.add_module(f"block{level + 1}", _stage(width + skips[7 - level], width, layers[level]))
        self.final = convolution(width, out_channels, 1)
        self.relu = ME.MinkowskiReLU(inplace=True)

    def forward(self, feats: Tensor, coords: Tensor) -> Tensor:
        """(N, in_channels) -> (N, out_channels), rows as given."""
        x = ME.SparseTensor(feats, coordinates=coords)
        out = self.relu(self.bn0(self.conv0p1s1(x)))
        skips = []
        for level in range(1, 5):
            skips.append(out)
            down, norm = getattr(self, f"conv{level}p{2 ** (level - 1)}s2"), getattr(self, f"bn{level}")
            out = getattr(self, f"block{level}")(self.relu(norm(down(out))))
        for level in range(4, 8):
            raised = getattr(self, f"bntr{level}")(getattr(self, f"convtr{level}p{2 ** (8 - level)}s2")(out))
            out = getattr(self, f"block{level + 1}")(ME.cat(self.relu(raised), skips.pop()))
        features: Tensor = self.final(out).F
        return features


def _stage(in_channels: int, channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(Block(in_channels if i == 0 else channels, channels) for i in range(blocks)))
