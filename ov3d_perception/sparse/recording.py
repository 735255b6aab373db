"""What a network does to a tensor, written down by calling it once.

:func:`record` calls the network with a :class:`Traced` tensor, which remembers the layers. So a network is written down
once, in its ``forward``, and compiled code can run all of it (:mod:`~ov3d_perception.sparse.plan`,
:mod:`~ov3d_perception.sparse.training_plan`). Tensors that are put side by side later (skip connections) are written
side by side from the beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ov3d_perception.sparse.buffers import Buffer
from ov3d_perception.sparse.coordinates import CoordinateManager
from ov3d_perception.sparse.kernel_map import Stencil
from ov3d_perception.sparse.modules import Conv3d, ConvTranspose3d
from ov3d_perception.sparse.tensor import SparseTensor


class UntraceableError(Exception):
    """The network does something that no layer of a plan does."""


class Recorded(NamedTuple):
    """``target = relu(norm(conv(source)) + projection(shortcut))``.

    projection: a pointwise convolution and its norm.
    """

    stencil: Stencil
    source: Buffer
    target: Buffer
    conv: Conv3d | ConvTranspose3d
    norm: nn.Module
    shortcut: Buffer | None
    projection: tuple[nn.Module, nn.Module] | None

    @property
    def transposed(self) -> bool:
        """Whether it goes back to the finer voxels."""
        return isinstance(self.conv, ConvTranspose3d)

    @property
    def buffers(self) -> list[Buffer]:
        """Those that it reads and writes, with memory."""
        return [b.place()[0] for b in (self.source, self.shortcut, self.target) if b is not None]


class Recording(NamedTuple):
    """The layers of a network."""

    source: Buffer
    layers: list[Recorded]
    target: Buffer


def record(network: nn.Module, channels: int, dtype: torch.dtype) -> Recording:
    """Call the network with a tensor of so many channels.

    Raises UntraceableError for a network that does other things than convolve, normalise, activate by ReLU and join.
    """
    source, layers = Buffer(1, channels), list[Recorded]()
    nowhere = _Nowhere(torch.zeros(0, 4, dtype=torch.int64))
    with torch.no_grad():
        out = network(Traced(source, layers, torch.zeros(0, dtype=dtype), nowhere))
    if not isinstance(out, Traced) or any(b.whole is not None for b in (source, out.buffer)) or out.buffer is source:
        raise UntraceableError("features or result are part of another tensor")
    return Recording(source, layers, out.buffer)


class _Nowhere(CoordinateManager):
    """No voxels, and none to come."""

    def expect(self, stencils: Sequence[Stencil], feats: Tensor) -> None:
        """Nothing."""

    def convolve(self, *args: Any, **options: Any) -> Tensor:
        """Refused: only :func:`fused.convolve_normalised` is recorded."""
        raise UntraceableError("it convolves by itself")


class Traced(SparseTensor):
    """Stands for a tensor while a network is recorded."""

    buffer: Buffer
    layers: list[Recorded]

    def __init__(self, buffer: Buffer, layers: list[Recorded], like: Tensor, manager: CoordinateManager) -> None:
        found = (like.new_zeros(0, buffer.channels), buffer.stride, manager, buffer, layers)
        for name, value in zip(("feats", "stride", "manager", "buffer", "layers"), found, strict=True):
            object.__setattr__(self, name, value)

    def replace(self, feats: Tensor) -> SparseTensor:
        """Not recorded."""
        raise UntraceableError("features are computed by other operations than layers")

    def beside(self, tensors: Sequence[SparseTensor]) -> SparseTensor:
        """One buffer, of which those of the tensors are parts."""
        whole = Buffer(self.stride, sum(t.feats.shape[1] for t in tensors))
        column = 0
        for part in tensors:
            if not isinstance(part, Traced) or part.buffer.whole is not None or not part.layers:
                raise UntraceableError("a tensor is put side by side with others twice")
            part.buffer.whole = (whole, column)
            column += part.buffer.channels
        return Traced(whole, self.layers, self.feats, self.manager)

    def convolve(
        self,
        conv: Conv3d | ConvTranspose3d,
        norm: nn.Module,
        shortcut: SparseTensor | None,
        projection: tuple[nn.Module, nn.Module] | None,
    ) -> Traced:
        """Record ``relu(norm(conv(self)) + projection(shortcut))``."""
        if conv.pointwise or (shortcut is not None and not isinstance(shortcut, Traced)):
            raise UntraceableError(f"no compiled layer for {conv}")
        stride = self.stride // conv.stride if isinstance(conv, ConvTranspose3d) else self.stride * conv.stride
        fine, coarse = sorted((self.stride, stride))
        stencil = Stencil(fine, coarse, conv.kernel_size, conv.dilation)
        target = Buffer(stride, conv.out_channels)
        beside = None if shortcut is None else shortcut.buffer
        self.layers.append(Recorded(stencil, self.buffer, target, conv, norm, beside, projection))
        return Traced(target, self.layers, self.feats, self.manager)
