"""SPVCNN (Tang et al., Searching Efficient 3D Architectures with Sparse Point-Voxel Convolution, ECCV 2020).

A U-Net of voxels with a branch of points beside it, which never loses resolution: after the stem, the fourth halving,
the second and the fourth doubling the voxels' features are interpolated at the points and added to a linear map of the
points' own; after the first three the points' features are averaged back into the voxels.

The releases (mit-han-lab/spvnas core/models/semantic_kitti/spvcnn.py, runnanchen/CLIP2Scene model/spvcnn.py, both on
torchsparse 1.4.0) name every parameter as here, down to ``stage1.0.net.0.kernel``; norms are BatchNorm1d or
SyncBatchNorm themselves (``stem.1.weight``, no ``.bn.``). What differs:

- Kernels are [K, in, out] ([in, out] for size 1), as ours. Odd sizes run x fastest, as ours; **even sizes run z
  fastest** (torchsparse/nn/utils/kernel.py): a [8, in, out] kernel becomes ours by
  ``k.view(2, 2, 2, i, o).transpose(0, 2).reshape(8, i, o)``. Offsets are -1..1 and 0..1, as ours; a transposed
  convolution uses each pair's offset of the convolution before it, as ours.
- Our ``classifier.0`` is a matrix without bias [out, features]; with ``head_bias`` its last column is the bias. The
  head of CLIP2Scene is not its ``classifier`` (480 -> classes, for fine-tuning), but ``point_mapping_global``
  (480 -> 512, weight and bias; annotation-free labels are its products with the text). ``point_mapping_local``,
  ``point_mapping_global_random`` and ``text_embeddings`` belong to its training. Its checkpoints keep the state_dict
  under ``model_points``.
- CLIP2Scene has one input, the intensity as nuScenes stores it (0..255), of one point of each voxel, where we take the
  voxel's mean; voxels of 0.1 m, in pretraining counted from the cloud's lowest corner. Its ``pres`` and ``vres`` are
  equal, so ``initial_voxelize`` changes nothing. SPVNAS has x, y, z, intensity of one point of each 0.05 m voxel.
- Both releases first keep one point a voxel, at the voxel's integer coordinate; this is :meth:`SPVCNN.forward`.
  :meth:`SPVCNN.forward_points` is the paper's network on all points, where they are.
- int(cr * c) channels, as there. Kernels start from He's initialisation instead of torchsparse's uniform one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ov3d_perception.networks.minkunet import append_one
from ov3d_perception.sparse import (
    Conv3d,
    ConvTranspose3d,
    Points,
    ReLU,
    SparseTensor,
    cat,
    convolve_normalised,
    quantize,
)

CHANNELS = (32, 32, 64, 128, 256, 256, 128, 96, 96)
"""Of the stem, the four down and the four up stages."""


@dataclass(frozen=True)
class PointDesign:
    """stages: which of the three point stages' features, side by side, are the result; dropout: before up1 and up3."""

    stages: tuple[int, ...]
    dropout: float


ARCHITECTURES = {
    "SPVCNN": PointDesign(stages=(2,), dropout=0.3),
    "SPVCNNConcat": PointDesign(stages=(0, 1, 2), dropout=0.0),
}
"""SPVCNN: of SPVNAS, 96 features. SPVCNNConcat: of CLIP2Scene, 480 features; with head_bias for its checkpoints."""


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation over all voxels of the batch, with torchsparse's parameter names."""

    def forward(self, x: SparseTensor) -> SparseTensor:  # type: ignore[override]
        """Same voxels, normalised features."""
        return x.replace(super().forward(x.feats))


class Block(nn.Module):
    """A convolution, or a transposed one, of size 2 and stride 2, with its norm and ReLU."""

    def __init__(self, layer: Conv3d | ConvTranspose3d) -> None:
        super().__init__()
        self.net = nn.Sequential(layer, BatchNorm(layer.out_channels), ReLU())

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(N, in) -> (M, out) on half or twice the stride."""
        layer, norm, relu = self.net
        assert isinstance(layer, Conv3d | ConvTranspose3d)
        return convolve_normalised(layer, norm, relu, x)


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions and a shortcut."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            Conv3d(in_channels, channels, kernel_size=3),
            BatchNorm(channels),
            ReLU(),
            Conv3d(channels, channels, kernel_size=3),
            BatchNorm(channels),
        )
        self.downsample: nn.Module = nn.Identity()
        if in_channels != channels:
            self.downsample = nn.Sequential(Conv3d(in_channels, channels, kernel_size=1), BatchNorm(channels))
        self.relu = ReLU()

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(N, in) -> (N, channels) on the same voxels."""
        first, norm1, relu, second, norm2 = self.net
        assert isinstance(first, Conv3d) and isinstance(second, Conv3d)
        projection = self.downsample if isinstance(self.downsample, nn.Sequential) else None
        return convolve_normalised(second, norm2, self.relu, convolve_normalised(first, norm1, relu, x), x, projection)


class SPVCNN(nn.Module):
    """See the module's text.

    arch: a key of :data:`ARCHITECTURES`; in_channels: input features a point; out_channels: dimension of the linear
    head ``classifier``; width: factor on all channels (the releases' cr); head_bias: as for
    :class:`~ov3d_perception.networks.minkunet.MinkUNet`, whose methods this network has.
    """

    def __init__(
        self, arch: str, in_channels: int, out_channels: int, width: float = 1.0, head_bias: bool = False
    ) -> None:
        super().__init__()
        if arch not in ARCHITECTURES:
            raise ValueError(f"Unknown architecture {arch!r}; known are {', '.join(ARCHITECTURES)}")
        self.arch, self.in_channels, self.out_channels, self.width = arch, in_channels, out_channels, width
        self.head_bias = head_bias
        self.design = ARCHITECTURES[arch]
        c = [int(width * channels) for channels in CHANNELS]
        if min(c) < 1:
            raise ValueError(f"A width of {width} leaves {arch} without channels; take at least {1 / min(CHANNELS)}")
        self.stem = nn.Sequential(
            *(Conv3d(in_channels, c[0], kernel_size=3), BatchNorm(c[0]), ReLU()),
            *(Conv3d(c[0], c[0], kernel_size=3), BatchNorm(c[0]), ReLU()),
        )
        self.stage1 = _down(c[0], c[1])
        self.stage2 = _down(c[1], c[2])
        self.stage3 = _down(c[2], c[3])
        self.stage4 = _down(c[3], c[4])
        self.up1 = _up(c[4], c[3], c[5])
        self.up2 = _up(c[5], c[2], c[6])
        self.up3 = _up(c[6], c[1], c[7])
        self.up4 = _up(c[7], c[0], c[8])
        branch = [c[4], c[6], c[8]]
        self.point_transforms = nn.ModuleList(
            nn.Sequential(nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU())
            for before, after in zip([c[0], *branch], branch, strict=False)
        )
        self.dropout = nn.Dropout(self.design.dropout)
        self.feature_dim = sum(branch[stage] for stage in self.design.stages) + head_bias
        self.classifier = nn.Sequential(nn.Linear(self.feature_dim, out_channels, bias=False))

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(N, in_channels) -> point features z (N, feature_dim) on the same voxels: one point a voxel, as released."""
        return x.replace(self._branches(x, Points.of_voxels(x)))

    def forward_points(
        self,
        positions: Float[Tensor, "n 3"],
        feats: Float[Tensor, "n i"],
        batch: Int64[Tensor, " n"] | None = None,
        backend: str = "torch",
    ) -> Float[Tensor, "n c"]:
        """Point features of each point: the paper's network. positions: in voxels; batch: of each point, 0 if absent.

        With one point in the middle of each voxel it equals :meth:`forward`.
        """
        if batch is None:
            batch = torch.zeros(len(positions), dtype=torch.int64, device=positions.device)
        coords, mean, _ = quantize(positions, 1.0, feats, batch)
        x = SparseTensor(mean, coords, backend=backend)
        return self._branches(x, Points(positions, batch, x.manager))

    def _branches(self, x: SparseTensor, points: Points) -> Float[Tensor, "n c"]:
        """Both branches; point features of the points."""
        x0 = self.stem(x)
        z0 = points.devoxelise(x0)
        x1 = self.stage1(points.voxelise(z0, x0.stride))
        x2 = self.stage2(x1)
        x3 = self.stage3(x2)
        x4 = self.stage4(x3)
        z1 = points.devoxelise(x4) + self.point_transforms[0](z0)
        y1 = _rise(self.up1, self._drop(points.voxelise(z1, x4.stride)), x3)
        y2 = _rise(self.up2, y1, x2)
        z2 = points.devoxelise(y2) + self.point_transforms[1](z1)
        y3 = _rise(self.up3, self._drop(points.voxelise(z2, y2.stride)), x1)
        y4 = _rise(self.up4, y3, x0)
        z3 = points.devoxelise(y4) + self.point_transforms[2](z2)
        chosen = [(z1, z2, z3)[stage] for stage in self.design.stages]
        z = chosen[0] if len(chosen) == 1 else torch.cat(chosen, dim=1)
        return append_one(z) if self.head_bias else z

    def _drop(self, x: SparseTensor) -> SparseTensor:
        return x.replace(self.dropout(x.feats))

    def head(self, features: Float[Tensor, "n c"]) -> Float[Tensor, "n d"]:
        """Point features to the image-text space (not normalised)."""
        return features @ self.basis

    @property
    def basis(self) -> Float[Tensor, "c d"]:
        """The linear head's matrix W: ``head(z) = z @ W``."""
        return self.classifier[0].get_parameter("weight").T


def _down(in_channels: int, channels: int) -> nn.Sequential:
    halved = Block(Conv3d(in_channels, in_channels, kernel_size=2, stride=2))
    return nn.Sequential(halved, ResidualBlock(in_channels, channels), ResidualBlock(channels, channels))


def _up(in_channels: int, skip_channels: int, channels: int) -> nn.ModuleList:
    blocks = nn.Sequential(ResidualBlock(channels + skip_channels, channels), ResidualBlock(channels, channels))
    return nn.ModuleList([Block(ConvTranspose3d(in_channels, channels, kernel_size=2)), blocks])


def _rise(stage: nn.ModuleList, x: SparseTensor, skip: SparseTensor) -> SparseTensor:
    """A doubling, the skip connection, and two residual blocks."""
    doubled, blocks = stage
    result: SparseTensor = blocks(cat([doubled(x), skip]))
    return result
