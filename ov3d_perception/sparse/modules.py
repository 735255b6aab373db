"""Layers on sparse tensors, with MinkowskiEngine's parameter names and shapes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ov3d_perception.sparse.convolution import multiply
from ov3d_perception.sparse.epilogue import Epilogue, apply_epilogue
from ov3d_perception.sparse.kernel_map import Stencil
from ov3d_perception.sparse.runtime.memory import require
from ov3d_perception.sparse.tensor import SparseTensor


class _Convolution(nn.Module):
    """Parameters common to both directions: ``kernel`` [K, in, out] ([in, out] if pointwise), ``bias`` [1, out].

    stride: None is 1 for a convolution, 2 for a transposed one.
    """

    _usual_stride = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int | None = None,
        dilation: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        stride = self._usual_stride if stride is None else stride
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.dilation = kernel_size, stride, dilation
        volume = kernel_size**3
        self.pointwise = volume == 1 and stride == 1
        shape = (in_channels, out_channels) if self.pointwise else (volume, in_channels, out_channels)
        self.kernel = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.zeros(1, out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He's normal initialisation over the fan out (He et al. 2015), as in MinkowskiEngine's networks."""
        nn.init.normal_(self.kernel, std=math.sqrt(2.0 / (self.out_channels * self.kernel_size**3)))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def _kernel(self) -> Tensor:
        """[K, in, out], for size 1 too."""
        return self.kernel if self.kernel.dim() == 3 else self.kernel[None]

    def _biased(self, feats: Tensor) -> Tensor:
        return feats if self.bias is None else feats + self.bias

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"


class Conv3d(_Convolution):
    """Sparse convolution; with stride 1 the output has the input's voxels (submanifold for odd sizes).

    With stride s the output voxels are ``floor(c / s) * s``. Odd kernels are centred, even ones cover 0..k-1.
    """

    def forward(self, x: SparseTensor, epilogue: Epilogue | None = None) -> SparseTensor:
        """(N, in) on stride t -> (M, out) on stride t * self.stride. epilogue: instead of the bias, without
        gradients."""
        if self.pointwise:
            require(len(x) * self.out_channels * x.feats.element_size(), len(x), x.feats.device)
            feats = multiply(x.feats, self.kernel)
            return x.replace(self._biased(feats) if epilogue is None else apply_epilogue(feats, epilogue))
        stride = x.stride * self.stride
        stencil = Stencil(x.stride, stride, self.kernel_size, self.dilation)
        feats = x.manager.convolve(x.feats, self._kernel(), stencil, epilogue)
        return SparseTensor(self._biased(feats) if epilogue is None else feats, stride=stride, manager=x.manager)


class ConvTranspose3d(_Convolution):
    """The transposed sparse convolution: back to the finer voxels that a convolution of the same shape came from."""

    _usual_stride = 2

    def forward(self, x: SparseTensor, epilogue: Epilogue | None = None) -> SparseTensor:
        """(N, in) on stride t -> (M, out) on stride t / self.stride; ValueError if there are no such voxels.

        epilogue: as for :class:`Conv3d`.
        """
        stride = x.stride // self.stride
        stencil = Stencil(stride, x.stride, self.kernel_size, self.dilation)
        feats = x.manager.convolve(x.feats, self._kernel(), stencil, epilogue, transposed=True)
        return SparseTensor(self._biased(feats) if epilogue is None else feats, stride=stride, manager=x.manager)


class BatchNorm(nn.Module):
    """Batch normalisation over all voxels of the batch; the wrapped layer is named ``bn`` as in MinkowskiEngine."""

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(channels, eps=eps, momentum=momentum)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Same voxels, normalised features."""
        return x.replace(self.bn(x.feats))


class ReLU(nn.Module):
    """max(0, features). With ``inplace`` the input's features are overwritten, which saves memory and time."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Same voxels."""
        return x.replace(torch.relu_(x.feats) if self.inplace else torch.relu(x.feats))
