"""Records of a training step's convolutions: their products, forward and backward, and the gradients of their kernels.

In bfloat16 only what is multiplied is rounded: a copy of the features, one of the gradient, kernels when they are laid
out. Sums, results and gradients are float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ov3d_perception.sparse import kernels
from ov3d_perception.sparse.batch_norm import can_be_compiled
from ov3d_perception.sparse.buffers import Buffer
from ov3d_perception.sparse.convolution import pairs_in_a_block
from ov3d_perception.sparse.kernel_map import KernelMap
from ov3d_perception.sparse.layer_code import layer, step_of
from ov3d_perception.sparse.modules import BatchNorm, Conv3d, ConvTranspose3d
from ov3d_perception.sparse.packing import pack_step
from ov3d_perception.sparse.recording import UntraceableError
from ov3d_perception.sparse.runtime import arena

_FLOATS = torch.zeros(0)


class Product(NamedTuple):
    """A convolution and its norm. number: among the plan's; pointwise ones have the map of each voxel with itself."""

    number: int
    source: Buffer
    conv: Conv3d | ConvTranspose3d
    norm: nn.BatchNorm1d


def product_of(buffer: Buffer, conv: nn.Module, norm: nn.Module, source: Buffer, numbers: Iterator[int]) -> Product:
    batch_norm = norm.bn if isinstance(norm, BatchNorm) else norm
    assert isinstance(conv, (Conv3d, ConvTranspose3d))
    known = kernels.fits(_FLOATS, conv.out_channels) and (buffer is source or kernels.fits(_FLOATS, conv.in_channels))
    if not known or conv.bias is not None or not can_be_compiled(batch_norm):
        raise UntraceableError(f"no compiled training of {conv} and {norm}")
    assert isinstance(batch_norm, nn.BatchNorm1d)
    return Product(next(numbers), buffer, conv, batch_norm)


def whole(rows: Tensor) -> tuple[int, int]:
    """Address, and elements from row to row."""
    return rows.data_ptr(), rows.shape[1]


class Kernels:
    """Packed kernels of one way, and the terms that their products begin with: none. dtype: of what is multiplied."""

    def __init__(self, products: Sequence[Product], dtype: torch.dtype) -> None:
        self._panels = arena.empty(1, sum(product.conv.kernel.numel() for product in products), _FLOATS)
        self._used, self._zeros = 0, torch.zeros(max(max(p.conv.in_channels, p.conv.out_channels) for p in products))
        self._dtype = dtype

    def steps(
        self,
        conv: Conv3d | ConvTranspose3d,
        pairs: KernelMap,
        feats: tuple[int, int],
        out: tuple[int, int],
        way: tuple[bool, bool] = (False, False),
    ) -> tuple[list[tuple[int, ...]], int]:
        """Records of the convolution's products, and floats that a block of them needs. way: whether it is the gradient
        of its features, and whether it is added to what is there."""
        (backward, add), (place, wide) = way, out
        kernel = conv.kernel.detach() if conv.kernel.dim() == 3 else conv.kernel.detach()[None]
        panels = self._panels.data_ptr() + 4 * self._used
        self._used += kernel.numel()
        pack = pack_step(kernel, panels, backward, self._dtype)
        columns, cut = pack.columns, pairs.cut(pairs_in_a_block(_FLOATS))
        rest = {"out": place, "out_wide": wide, "columns": columns}
        function = layer(columns, self._dtype, "same" if add else "none", out=torch.float32)
        step = step_of(function, pairs, cut, (*feats, even(pack.channels, self._dtype)), panels, self._zeros, **rest)
        step = step._replace(shortcut=place, shortcut_wide=wide) if add else step
        return [pack, step], cut.most * columns


def even(channels: int, dtype: torch.dtype) -> int:
    """Of bfloat16, channels are multiplied two at a time where the processor multiplies pairs."""
    return channels + channels % kernels.form_of(dtype).step
