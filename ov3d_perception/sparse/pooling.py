"""Pooling with MinkowskiEngine's semantics: over the occupied voxels under the kernel, on the convolution's voxels."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from ov3d_perception.sparse.point_voxel import Points
from ov3d_perception.sparse.row_sums import RowSums
from ov3d_perception.sparse.tensor import SparseTensor

Mode = Literal["sum", "average", "max"]


class Pool3d(nn.Module):
    """The sum, the average or the maximum of the occupied voxels under the kernel, for each channel.

    Kernel and stride are those of :class:`~ov3d_perception.sparse.modules.Conv3d`, except that a kernel as large as the
    stride covers the output voxel, whether its size is even or odd. The average divides by the number of occupied
    voxels, not by the kernel's volume. An output voxel without any voxel under the kernel (a kernel smaller than the
    stride) is zero; MinkowskiEngine's maximum is then the lowest float.
    """

    def __init__(self, mode: Mode, kernel_size: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.mode, self.kernel_size, self.stride, self.dilation = _known(mode), kernel_size, stride, dilation

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(N, C) on stride t -> (M, C) on stride t * self.stride."""
        stride = x.stride * self.stride
        kernel_map = x.manager.kernel_map(x.stride, stride, self.kernel_size, self.dilation)
        if self.kernel_size == self.stride:
            sums = Points.of_voxels(x).cells(stride).transposed
        else:
            rows, outs = (torch.cat(part) for part in zip(*kernel_map.pairs(), strict=True))
            sums = RowSums.from_pairs(rows, outs, len(x), len(x.manager.voxels(stride)))
        return SparseTensor(_pool(x.feats, sums, self.mode), stride=stride, manager=x.manager)

    def extra_repr(self) -> str:
        return f"{self.mode}, kernel_size={self.kernel_size}, stride={self.stride}"


class GlobalPool(nn.Module):
    """The sum, the average or the maximum over each sample of the batch: row b is sample b, zero if it has no voxels.

    MinkowskiEngine gives a sparse tensor with a voxel for each sample; here it is the matrix of its features.
    """

    def __init__(self, mode: Mode) -> None:
        super().__init__()
        self.mode = _known(mode)

    def forward(self, x: SparseTensor) -> Float[Tensor, "b c"]:
        """(N, C) -> (batch size, C)."""
        batch = x.coords[:, 0]
        samples = int(batch.max()) + 1 if len(batch) else 0
        rows = torch.arange(len(batch), device=batch.device)
        return _pool(x.feats, RowSums.from_pairs(rows, batch, len(x), samples), self.mode)

    def extra_repr(self) -> str:
        return self.mode


def _known(mode: Mode) -> Mode:
    if mode not in ("sum", "average", "max"):
        raise ValueError(f"Unknown pooling {mode!r}; known are sum, average, max")
    return mode


def _pool(feats: Tensor, sums: RowSums, mode: Mode) -> Tensor:
    if mode == "max":
        if len(sums.row) == 0:
            return feats.new_zeros(len(sums), feats.shape[1])
        return embedding_bag(sums.row, feats, sums.start, mode="max", include_last_offset=True)
    return (sums.mean() if mode == "average" else sums)(feats)
