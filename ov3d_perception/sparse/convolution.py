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

from ov3d_perception.sparse import arena
from ov3d_perception.sparse.blocks import Block, cut_for
from ov3d_perception.sparse.finish import Finish, finished
from ov3d_perception.sparse.kernel_map import KernelMap
from ov3d_perception.sparse.memory import named, require
from ov3d_perception.sparse.workers import spread

_FEW_CHANNELS = 4
_SCRATCH_BYTES = 1 << 26
_kept = threading.local()
_grouped_mm = getattr(torch.nn.functional, "grouped_mm", None)
"""PyTorch's since 2.13."""


def convolve(
    feats: Float[Tensor, "n i"],
    kernel: Float[Tensor, "k i o"],
    kernel_map: KernelMap,
    finish: Finish | None = None,
    transposed: bool = False,
) -> Float[Tensor, "m o"]:
    """``out[q] = sum of feats[p] @ kernel[offset]`` over the pairs (p, q) of each offset. Differentiable (once).

    transposed: over the pairs (q, p) instead, the way back. finish: what is done to the result before it is stored; it
    is not differentiable. Under autocast the products are made in the autocast type. Raises PointCloudError where the
    memory is too small.
    """
    device = feats.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        feats, kernel = feats.to(dtype), kernel.to(dtype)
    voxels = max(kernel_map.n_in, kernel_map.n_out)
    n_out = kernel_map.n_in if transposed else kernel_map.n_out
    require(n_out * kernel.shape[2] * feats.element_size(), voxels, feats.device)
    with named(voxels):
        if finish is None:
            return _Convolve.apply(feats, kernel, kernel_map, transposed)
        way = kernel_map.transposed if transposed else kernel_map
        return _forward(feats, kernel, way, finish.to(feats.dtype))


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, feats: Tensor, kernel: Tensor, kernel_map: KernelMap, transposed: bool) -> Tensor:
        ctx.save_for_backward(feats, kernel)
        ctx.kernel_map, ctx.transposed = kernel_map, transposed
        return _forward(feats, kernel, kernel_map.transposed if transposed else kernel_map, None)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        feats, kernel = ctx.saved_tensors
        kernel_map, transposed = ctx.kernel_map, ctx.transposed
        want_feats, want_kernel, *_ = ctx.needs_input_grad
        if not want_feats and feats.shape[1] <= _FEW_CHANNELS:
            way = kernel_map.transposed if transposed else kernel_map
            return None, _few_channel_gradient(feats, grad.contiguous(), kernel, way), None, None
        back = kernel_map if transposed else kernel_map.transposed
        return *_gradients(grad.contiguous(), feats, kernel, back, want_feats, want_kernel), None, None


def _forward(feats: Tensor, kernel: Tensor, kernel_map: KernelMap, finish: Finish | None) -> Tensor:
    if feats.shape[1] > _FEW_CHANNELS:
        return _products(feats, kernel, kernel_map, finish)
    return finished(_weighted_bags(feats, kernel, kernel_map), finish)


def _products(feats: Tensor, kernel: Tensor, kernel_map: KernelMap, finish: Finish | None) -> Tensor:
    """Gather, multiply, sum; one block of output rows after the other."""
    kernel, centre = _by_segment(kernel, kernel_map), kernel_map.centre
    out = arena.empty(kernel_map.n_out, kernel.shape[2], feats)
    grouped = _can_group(feats, kernel)
    multiplied = _grouped if grouped else _one_by_one

    def work(blocks: Iterable[Block]) -> None:
        for block in blocks:
            products = multiplied(feats, kernel, block)
            _store(out, block, products, feats, None if centre is None else kernel[centre], finish)

    spread(work, kernel_map.blocks(cut_for(feats.device, feats.dtype, grouped)), feats.device)
    return out


def _can_group(feats: Tensor, kernel: Tensor) -> bool:
    """``grouped_mm`` knows these types, and rows that begin at multiples of 16 bytes."""
    known = feats.dtype in (torch.float32, torch.bfloat16) and feats.device.type == "cpu" and _grouped_mm is not None
    return known and all(channels * feats.element_size() % 16 == 0 for channels in kernel.shape[1:])


def _grouped(feats: Tensor, kernel: Tensor, block: Block) -> Tensor:
    """The products of a block in one call: PyTorch's loop over the offsets, in which no thread waits for Python."""
    gathered = _gather("inputs", feats, block.in_rows)
    matrices = kernel if block.segments is None else kernel.index_select(0, block.segments)
    assert _grouped_mm is not None
    products: Tensor = _grouped_mm(gathered, matrices, offs=block.ends)
    return products


def _one_by_one(feats: Tensor, kernel: Tensor, block: Block) -> Tensor:
    """The products of a block, tile after tile."""
    products = _scratch("products", feats, len(block), kernel.shape[2])
    for chunk, places in zip(block.chunks, products.split(block.heights), strict=True):
        gathered = _gather("inputs", feats, chunk.in_rows).split(chunk.heights)
        for tile, rows, place in zip(chunk.tiles, gathered, places.split(chunk.heights), strict=True):
            torch.mm(rows, kernel[tile.segment], out=place)
    return products


def _gradients(
    grad: Tensor, feats: Tensor, kernel: Tensor, back: KernelMap, want_feats: bool, want_kernel: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Both gradients in one walk, so that the incoming one is gathered once. ``back``: the transposed map.

    Threads have fixed shares of the blocks, so that sums are the same to the bit from run to run.
    """
    turned, centre = _by_segment(kernel, back).transpose(1, 2), back.centre
    matrices = turned.unbind(0)
    feats_grad = arena.empty(len(feats), feats.shape[1], feats)
    wide = torch.promote_types(kernel.dtype, torch.float32)

    def work(blocks: Iterable[Block]) -> Tensor:
        kernel_grad = torch.zeros(kernel.shape if want_kernel else 0, dtype=wide, device=kernel.device)
        sums = kernel_grad.unbind(0)
        for block in blocks:
            products = _scratch("products", feats, len(block), feats.shape[1])
            for chunk, places in zip(block.chunks, products.split(block.heights), strict=True):
                grads = _gather("grads", grad, chunk.in_rows).split(chunk.heights)
                inputs = _gather("inputs", feats, chunk.out_rows).split(chunk.heights) if want_kernel else grads
                for tile, rows, side, place in zip(
                    chunk.tiles, grads, inputs, places.split(chunk.heights), strict=True
                ):
                    if want_feats:
                        torch.mm(rows, matrices[tile.segment], out=place)
                    if want_kernel:
                        if tile.pairs < tile.height:
                            side[tile.pairs :].zero_()
                        _add_product(sums[tile.segment], side.T, rows)
            if want_feats:
                _store(feats_grad, block, products, grad, None if centre is None else matrices[centre])
            if want_kernel and centre is not None:
                _add_product(sums[centre], feats[block.rows].T, grad[block.rows])
        return kernel_grad

    blocks = back.blocks(cut_for(feats.device, feats.dtype, grouped=False))
    kernel_grads = spread(work, blocks, feats.device, fixed=True)
    total = kernel_grads[0]
    for other in kernel_grads[1:]:
        total += other
    kernel_grad = _by_segment(total, back).to(kernel.dtype) if want_kernel else None
    return feats_grad if want_feats else None, kernel_grad


def _by_segment(kernel: Float[Tensor, "k i o"], kernel_map: KernelMap) -> Float[Tensor, "k i o"]:
    """The kernel's rows in the order of the map's segments, which is theirs or its reverse: so it goes both ways."""
    return kernel if kernel_map.slots[0] == 0 else kernel.flip(0)


def multiply(feats: Float[Tensor, "n i"], kernel: Float[Tensor, "i o"], keep: bool = True) -> Float[Tensor, "n o"]:
    """``feats @ kernel``, differentiable; without gradients in memory from the arena, which it keeps or not."""
    if torch.is_grad_enabled() or torch.is_autocast_enabled(feats.device.type):
        return feats @ kernel
    return torch.mm(feats, kernel, out=arena.empty(len(feats), kernel.shape[1], feats, keep))


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


def _store(
    out: Tensor, block: Block, products: Tensor, feats: Tensor, centre: Tensor | None, finish: Finish | None = None
) -> None:
    """The block's rows of ``out``: their bags' sums, the product of the centre where there is one, and what follows."""
    total = embedding_bag(block.pair, products, block.start, mode="sum", include_last_offset=True)
    if finish is not None:
        if centre is not None:
            total.addmm_(feats[block.rows], centre)
        finish(total, block.rows, out[block.rows])
    elif centre is not None:
        torch.addmm(total, feats[block.rows], centre, out=out[block.rows])
    else:
        out[block.rows] = total


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
