"""The product of features and kernel over a kernel map.

For each kernel offset the input rows are gathered and multiplied with the offset's matrix, the products lying one
after the other in one buffer; then every output row is the sum of its bag of products (``embedding_bag``), which writes
each row once and is an order of magnitude faster on a CPU than scattering with addition. A layer with few input
channels (the stem) skips the products: each output row is a weighted bag of kernel rows.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import embedding_bag

from ov3d_perception.sparse.kernel_map import Bags, KernelMap

_FEW_CHANNELS = 4


def convolve(
    feats: Float[Tensor, "n i"], kernel: Float[Tensor, "k i o"], kernel_map: KernelMap
) -> Float[Tensor, "m o"]:
    """``out[q] = sum of feats[p] @ kernel[offset]`` over the pairs (p, q) of each offset. Differentiable (once).

    Under autocast the products are made in the autocast type.
    """
    device = feats.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        feats, kernel = feats.to(dtype), kernel.to(dtype)
    return _Convolve.apply(feats, kernel, kernel_map)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, feats: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
        ctx.save_for_backward(feats, kernel)
        ctx.kernel_map = kernel_map
        if feats.shape[1] <= _FEW_CHANNELS:
            return _weighted_bags(feats, kernel, kernel_map)
        return _products(feats, kernel, kernel_map)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        feats, kernel = ctx.saved_tensors
        want_feats, want_kernel, _ = ctx.needs_input_grad
        if not want_feats and feats.shape[1] <= _FEW_CHANNELS:
            return None, _few_channel_gradient(feats, grad.contiguous(), kernel, ctx.kernel_map), None
        back = ctx.kernel_map.transposed
        return *_gradients(grad.contiguous(), feats, kernel, back, want_feats, want_kernel), None


def _products(feats: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """Gather, multiply, sum."""
    pairs, slots = kernel_map.pairs(), kernel_map.slots
    scratch = feats.new_empty(max(kernel_map.sizes), feats.shape[1])
    out: Tensor | None = None
    for segments, bags in kernel_map.parts:
        products = feats.new_empty(len(bags.pair), kernel.shape[2])
        for segment, room in zip(segments, _rooms(products, kernel_map, segments), strict=True):
            gathered = _gather(feats, pairs[segment][0], scratch, segment == kernel_map.identity)
            torch.mm(gathered, kernel[slots[segment]], out=room)
        out = _add(out, _sum(products, bags))
    assert out is not None
    return out


def _gradients(
    grad: Tensor, feats: Tensor, kernel: Tensor, back: KernelMap, want_feats: bool, want_kernel: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Both gradients in one walk, so that the incoming one is gathered once. ``back``: the transposed map."""
    pairs, slots = back.pairs(), back.slots
    rows = max(back.sizes)
    grad_scratch, feats_scratch = grad.new_empty(rows, grad.shape[1]), feats.new_empty(rows, feats.shape[1])
    kernel_grad = torch.empty_like(kernel) if want_kernel else None
    feats_grad: Tensor | None = None
    for segments, bags in back.parts:
        products = grad.new_empty(len(bags.pair) if want_feats else 0, kernel.shape[1])
        rooms = _rooms(products, back, segments) if want_feats else [products] * len(segments)
        for segment, room in zip(segments, rooms, strict=True):
            same = segment == back.identity
            gathered = _gather(grad, pairs[segment][0], grad_scratch, same)
            if want_feats:
                torch.mm(gathered, kernel[slots[segment]].T, out=room)
            if kernel_grad is not None:
                inputs = _gather(feats, pairs[segment][1], feats_scratch, same)
                torch.mm(inputs.T, gathered, out=kernel_grad[slots[segment]])
        feats_grad = _add(feats_grad, _sum(products, bags)) if want_feats else None
    return feats_grad, kernel_grad


def _rooms(products: Tensor, kernel_map: KernelMap, segments: range) -> tuple[Tensor, ...]:
    """The part of the buffer that belongs to each segment."""
    return products.split(kernel_map.sizes[segments.start : segments.stop])


def _gather(feats: Tensor, rows: Tensor, scratch: Tensor, same: bool) -> Tensor:
    return feats if same else torch.index_select(feats, 0, rows, out=scratch[: len(rows)])


def _sum(products: Tensor, bags: Bags) -> Tensor:
    return embedding_bag(bags.pair, products, bags.start, mode="sum", include_last_offset=True)


def _add(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total.add_(part)


def _weighted_bags(feats: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """Few input channels: output row = sum of kernel rows, weighted with the input's features."""
    bags, channels = kernel_map.bags, feats.shape[1]
    weights = feats.index_select(0, kernel_map.in_rows.index_select(0, bags.pair)).flatten()
    slots = torch.as_tensor(kernel_map.slots, dtype=torch.int32, device=feats.device).index_select(0, bags.segment)
    table_rows = slots[:, None] * channels + torch.arange(channels, dtype=torch.int32, device=feats.device)
    return embedding_bag(
        table_rows.flatten(),
        kernel.reshape(-1, kernel.shape[2]),
        bags.start * channels,
        mode="sum",
        include_last_offset=True,
        per_sample_weights=weights,
    )


def _few_channel_gradient(feats: Tensor, grad: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """The kernel's gradient for few input channels: for each segment a bag of gradients, weighted with features."""
    sizes = torch.tensor((0, *kernel_map.sizes), device=feats.device)
    starts = sizes.cumsum(0).int()
    result = torch.empty_like(kernel)
    slots = list(kernel_map.slots)
    for channel in range(feats.shape[1]):
        weights = feats[:, channel].contiguous().index_select(0, kernel_map.in_rows)
        result[slots, channel] = embedding_bag(
            kernel_map.out_rows, grad, starts, mode="sum", include_last_offset=True, per_sample_weights=weights
        )
    return result
