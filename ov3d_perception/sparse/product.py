"""A plain product of matrices by the code of layers: one of no offsets, whose shortcut is projected."""

from __future__ import annotations

import torch
from jaxtyping import Float32
from torch import Tensor

from ov3d_perception.sparse.layer_code import Step, layer
from ov3d_perception.sparse.packing import packed
from ov3d_perception.sparse.steps import run_steps

_ROWS = 64
"""A block's: with the 768 columns of a head, its sums fit a core's cache."""


def multiply_into(
    feats: Float32[Tensor, "n i"], kernel: Float32[Tensor, "i o"], out: Float32[Tensor, "n o"]
) -> Float32[Tensor, "n o"]:
    """``out = feats @ kernel`` on a CPU, all contiguous; for numbers of columns that
    :func:`~ov3d_perception.sparse.kernels.fits`."""
    (rows, channels), columns = feats.shape, kernel.shape[1]
    panels, bias = packed(kernel[None]), torch.zeros(columns)
    bounds = torch.cat([torch.arange(0, rows, _ROWS), torch.tensor([rows])]).int()
    step = Step(
        function=layer(columns, feats.dtype, "projected"),
        blocks=len(bounds) - 1,
        rows=bounds.data_ptr(),
        bias=bias.data_ptr(),
        out=out.data_ptr(),
        out_wide=columns,
        columns=columns,
        shortcut=feats.data_ptr(),
        shortcut_wide=channels,
        shortcut_channels=channels,
        matrix=panels.data_ptr(),
        **dict.fromkeys(_OF_PAIRS, 0),
    )
    if len(bounds) > 1:
        run_steps([step], _ROWS * columns)
    return out


_OF_PAIRS = ("edges", "segments", "slots", "in_rows", "out_rows", "feats", "feats_wide", "channels", "kernel", "ahead")
"""Fields that a layer without pairs does not read."""
