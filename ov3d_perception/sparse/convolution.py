"""The product of features and kernel over a kernel map.

For each kernel offset the input rows are gathered and multiplied with the offset's matrix, the products lying one
after the other in one buffer; then every output row is the sum of its bag of products (``embedding_bag``), which writes
each row once and is an order of magnitude faster on a CPU than scattering with addition. This is done for one block of
output rows after the other (see :mod:`~ov3d_perception.sparse.blocks`). The centre of a submanifold kernel meets every
row with itself: nothing to gather, and its product is added where the sum goes. A layer with few input channels (the
stem) skips the products: each output row is a weighted bag of kernel rows.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import embedding_bag

from ov3d_perception.sparse.blocks import Block
from ov3d_perception.sparse.kernel_map import KernelMap
from ov3d_perception.sparse.memory import named, require
from ov3d_perception.sparse.workers import spread

_FEW_CHANNELS = 4
_SCRATCH_BYTES = 1 << 26
_kept = threading.local()


def convolve(
    feats: Float[Tensor, "n i"], kernel: Float[Tensor, "k i o"], kernel_map: KernelMap
) -> Float[Tensor, "m o"]:
    """``out[q] = sum of feats[p] @ kernel[offset]`` over the pairs (p, q) of each offset. Differentiable (once).

    Under autocast the products are made in the autocast type. Raises PointCloudError where the memory is too small.
    """
    device = feats.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        feats, kernel = feats.to(dtype), kernel.to(dtype)
    voxels = max(kernel_map.n_in, kernel_map.n_out)
    require(kernel_map.n_out * kernel.shape[2] * feats.element_size(), voxels, feats.device)
    with named(voxels):
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
    """Gather, multiply, sum; one block of output rows after the other."""
    matrices, centre = [kernel[slot] for slot in kernel_map.slots], kernel_map.centre
    out = feats.new_empty(kernel_map.n_out, kernel.shape[2])

    def work(blocks: Iterable[Block]) -> None:
        for block in blocks:
            products = _scratch("products", feats, len(block), kernel.shape[2])
            for tile, place in zip(block.tiles, products.split(block.heights), strict=True):
                torch.mm(_gather("inputs", feats, tile.in_rows), matrices[tile.segment], out=place)
            _store(out, block, products, feats, None if centre is None else matrices[centre])

    spread(work, kernel_map.blocks, feats.device)
    return out


def _gradients(
    grad: Tensor, feats: Tensor, kernel: Tensor, back: KernelMap, want_feats: bool, want_kernel: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Both gradients in one walk, so that the incoming one is gathered once. ``back``: the transposed map."""
    matrices, centre = [kernel[slot].T for slot in back.slots], back.centre
    feats_grad = torch.empty_like(feats)
    kernel_grads: list[Tensor] = []

    def work(blocks: Iterable[Block]) -> None:
        kernel_grad = torch.zeros_like(kernel, dtype=torch.promote_types(kernel.dtype, torch.float32))
        for block in blocks:
            products = _scratch("products", feats, len(block), feats.shape[1])
            for tile, place in zip(block.tiles, products.split(block.heights), strict=True):
                gathered = _gather("grads", grad, tile.in_rows)
                if want_feats:
                    torch.mm(gathered, matrices[tile.segment], out=place)
                if want_kernel:
                    gathered[tile.pairs :].zero_()
                    inputs = _gather("inputs", feats, tile.out_rows)
                    _add_product(kernel_grad[back.slots[tile.segment]], inputs.T, gathered)
            if want_feats:
                _store(feats_grad, block, products, grad, None if centre is None else matrices[centre])
            if want_kernel and centre is not None:
                _add_product(kernel_grad[back.slots[centre]], feats[block.rows].T, grad[block.rows])
        kernel_grads.append(kernel_grad)

    spread(work, back.blocks, feats.device)
    kernel_grad = torch.stack(kernel_grads).sum(0) if len(kernel_grads) > 1 else kernel_grads[0]
    return feats_grad if want_feats else None, kernel_grad.to(kernel.dtype) if want_kernel else None


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """``total += a @ b``, where total may be of a wider type."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b


def _scratch(name: str, like: Tensor, rows: int, channels: int) -> Tensor:
    """A buffer, kept from layer to layer and from scan to scan, one of each name in a thread: fresh memory would have
    to be mapped page by page each time, which takes as long as filling it. On a CPU it is made so large that it need
    not grow, which leaves no holes; what is not written to takes no memory.
    """
    kept: dict[Any, Tensor] = _kept.__dict__.setdefault("buffers", {})
    key = name, like.dtype, like.device
    if key not in kept or len(kept[key]) < rows * channels:
        least = _SCRATCH_BYTES // like.element_size() if like.device.type == "cpu" else 0
        with torch.inference_mode(False):
            kept[key] = torch.empty(max(rows * channels, least), dtype=like.dtype, device=like.device)
    return kept[key][: rows * channels].view(rows, channels)


def _gather(name: str, feats: Tensor, rows: Tensor) -> Tensor:
    """Rows of ``feats`` in the buffer of that name."""
    return torch.index_select(feats, 0, rows, out=_scratch(name, feats, len(rows), feats.shape[1]))


def _store(out: Tensor, block: Block, products: Tensor, feats: Tensor, centre: Tensor | None) -> None:
    """The block's rows of ``out``: their bags' sums, and the product of the centre where there is one."""
    total = embedding_bag(block.pair, products, block.start, mode="sum", include_last_offset=True)
    if centre is None:
        out[block.rows] = total
    else:
        torch.addmm(total, feats[block.rows], centre, out=out[block.rows])


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
