"""The layers of a plan with their weights as they are read: norm folded, matrices packed, bytes scaled.

In bytes a number is ``unit * byte``. What a layer gives has no sign, after ReLU, and one unit; weights have a sign, and
one unit for each output channel. The units of a layer's inputs, of which there are two where the outputs of two layers
lie side by side, are multiplied into its weights before those are rounded. So sums of products are integers, and one
factor for each output channel makes outputs of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Float32, Int8
from torch import Tensor

from ov3d_perception.sparse import kernels
from ov3d_perception.sparse.buffers import Buffer
from ov3d_perception.sparse.fused import affine
from ov3d_perception.sparse.layer_code import layer
from ov3d_perception.sparse.packing import packed
from ov3d_perception.sparse.recording import Recorded, Recording, UntraceableError

_SIGNED, _UNSIGNED = 127, 255
_MOST_PRODUCTS = (2**31 - 1) // (_SIGNED * _UNSIGNED)
"""Whose sum fits 32 bits in any case."""


class Layer(NamedTuple):
    """A recorded layer. scale, shortcut_scale: what a layer of bytes multiplies its sums of products, and its
    shortcut or that one's products, with."""

    recorded: Recorded
    kernel: Tensor
    bias: Float32[Tensor, " o"]
    matrix: Tensor | None
    function: int
    scale: Float32[Tensor, " o"] | None = None
    shortcut_scale: Float32[Tensor, " o"] | None = None


def layers_of(recording: Recording, dtype: torch.dtype) -> list[Layer]:
    """All in floats of one type. Raises UntraceableError where there is no code for one."""
    made = []
    for recorded in recording.layers:
        kernel, bias, matrix = _weights(recorded)
        if recorded.conv.kernel.dtype != dtype:
            raise UntraceableError(f"{recorded.conv} is of another type than its features")
        function = layer(recorded.conv.out_channels, dtype, _kind(recorded), relu=True)
        panels = None if matrix is None else packed(matrix[None])
        made.append(Layer(recorded, packed(kernel), bias, panels, function))
    return made


def byte_layers_of(recording: Recording, dtype: torch.dtype, largest: Sequence[float]) -> list[Layer]:
    """In bytes, but for what the first layers read and the last one gives, which is of type ``dtype``.

    largest: the greatest output that each layer is to tell from others; what is greater becomes this one. Raises
    UntraceableError where there is no code for a layer, ValueError where ``largest`` belongs to other layers.
    """
    if len(largest) != len(recording.layers):
        raise ValueError(f"{len(largest)} largest outputs for {len(recording.layers)} layers")
    units = _Units(recording, largest)
    return [
        _of_floats(made, units, dtype) if made.source is recording.source else _of_bytes(made, units, dtype)
        for made in recording.layers
    ]


class _Units:
    """The unit of each channel of a buffer."""

    def __init__(self, recording: Recording, largest: Sequence[float]) -> None:
        self._target = recording.target
        self._known: dict[Buffer, Float32[Tensor, " c"]] = {}
        for made, most in zip(recording.layers, largest, strict=True):
            whole, column = made.target.place()
            units = self._known.setdefault(whole, torch.ones(whole.channels))
            if made.target is not recording.target:
                units[column : column + made.target.channels] = max(most, 1e-12) / _UNSIGNED

    def of(self, buffer: Buffer) -> Float32[Tensor, " c"]:
        """Raises UntraceableError for one that is not of bytes."""
        whole, column = buffer.place()
        if whole not in self._known or buffer is self._target:
            raise UntraceableError("no compiled layer that joins bytes and floats")
        return self._known[whole][column : column + buffer.channels]

    def of_target(self, made: Recorded) -> Float32[Tensor, " c"]:
        """What the layer's output is divided by: 1 for floats."""
        return torch.ones(made.target.channels) if self.is_last(made) else self.of(made.target)

    def is_last(self, made: Recorded) -> bool:
        """Whether the layer gives the network's result."""
        return made.target is self._target


def _of_floats(made: Recorded, units: _Units, dtype: torch.dtype) -> Layer:
    """Reads floats and gives bytes."""
    if made.shortcut is not None or units.is_last(made):
        raise UntraceableError("no compiled layer that joins bytes and floats")
    (kernel, bias, _), unit = _weights(made), units.of(made.target)
    function = layer(made.conv.out_channels, dtype, relu=True, out=torch.uint8)
    return Layer(made, packed((kernel.float() / unit).to(dtype)), bias / unit, None, function)


def _of_bytes(made: Recorded, units: _Units, dtype: torch.dtype) -> Layer:
    if made.conv.kernel[..., 0].numel() > _MOST_PRODUCTS:
        raise UntraceableError(f"sums of bytes are too large in {made.conv}")
    (kernel, bias, matrix), unit = _weights(made), units.of_target(made)
    whole, scale = rounded(kernel * units.of(made.source)[:, None])
    panels, beside = None, None
    if made.shortcut is not None:
        beside = units.of(made.shortcut)
        if matrix is not None:
            small, beside = rounded(matrix[None] * beside[:, None])
            panels = packed(small)
        beside = beside / unit
    out = dtype if units.is_last(made) else torch.uint8
    function = layer(made.conv.out_channels, torch.uint8, _kind(made), relu=True, out=out)
    return Layer(made, packed(whole), bias / unit, panels, function, scale / unit, beside)


def rounded(kernel: Float[Tensor, "k i o"]) -> tuple[Int8[Tensor, "k i o"], Float32[Tensor, " o"]]:
    """Bytes and the unit of each output channel: its greatest weight is 127 or -127 of them."""
    unit = kernel.float().abs().amax((0, 1)).clamp_min(1e-12) / _SIGNED
    return (kernel / unit).round().to(torch.int8), unit


def _kind(made: Recorded) -> str:
    return "none" if made.shortcut is None else "same" if made.projection is None else "projected"


def _weights(made: Recorded) -> tuple[Tensor, Float32[Tensor, " o"], Tensor | None]:
    """Kernel and bias with the norm among them, and the shortcut's matrix. Raises UntraceableError where no layer has
    so many channels."""
    conv = made.conv
    if not kernels.fits(conv.kernel[:0], conv.out_channels):
        raise UntraceableError(f"no compiled layer for {conv}")
    scale, shift, matrix = affine(conv, made.norm, made.projection)
    kernel = conv.kernel if scale is None else (conv.kernel * scale).to(conv.kernel.dtype)
    bias = torch.zeros(conv.out_channels) if shift is None else shift.float().clone()
    return kernel, bias, matrix
