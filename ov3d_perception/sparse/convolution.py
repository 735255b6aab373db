"""The product of features and kernel over a kernel map.

One block of output rows is computed after the other (see :mod:`~ov3d_perception.sparse.blocks`). On a CPU, compiled
code does it (:mod:`~ov3d_perception.sparse.layer_code`). On other devices, and for other types, PyTorch's operations
do: for each kernel offset the input rows are gathered and multiplied with the offset's matrix, into one buffer; then
each output row is the sum of its products (``embedding_bag``), written once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import embedding_bag

from ov3d_perception.sparse import kernels
from ov3d_perception.sparse.blocks import Block
from ov3d_perception.sparse.epilogue import Epilogue
from ov3d_perception.sparse.kernel_gradient import kernel_gradient
from ov3d_perception.sparse.kernel_map import KernelMap
from ov3d_perception.sparse.layer_code import layer, step_of
from ov3d_perception.sparse.packing import packed
from ov3d_perception.sparse.product import multiply_into
from ov3d_perception.sparse.runtime import arena
from ov3d_perception.sparse.runtime.memory import as_resource_error, require
from ov3d_perception.sparse.runtime.workers import run_on_threads
from ov3d_perception.sparse.steps import run_steps

_PAIRS = {"cpu": 1 << 14, "cuda": 1 << 22}
"""Pairs a block: on a CPU its sums fit the inner cache; a GPU is faster with few large products."""
_kept = threading.local()


def pairs_in_a_block(feats: Tensor) -> int:
    """About how many pairs a block has, for features on their device."""
    return _PAIRS[feats.device.type]


def convolve(
    feats: Float[Tensor, "n i"],
    kernel: Float[Tensor, "k i o"],
    kernel_map: KernelMap,
    epilogue: Epilogue | None = None,
    transposed: bool = False,
) -> Float[Tensor, "m o"]:
    """``out[q] = sum of feats[p] @ kernel[offset]`` over the pairs (p, q) of each offset. Differentiable (once).

    transposed: over the pairs (q, p) instead, the way back. epilogue: applied to the result before it is stored;
    it is not differentiable. Under autocast the products are made in the autocast type. Raises ResourceError where the
    memory is too small, ValueError where features, kernel and map do not belong together.
    """
    device = feats.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        feats, kernel = feats.to(dtype), kernel.to(dtype)
    voxels = max(kernel_map.n_in, kernel_map.n_out)
    n_in, n_out = (kernel_map.n_in, kernel_map.n_out)[:: -1 if transposed else 1]
    if tuple(feats.shape) != (n_in, kernel.shape[1]) or len(kernel) != len(kernel_map.sizes):
        raise ValueError(
            f"Features {tuple(feats.shape)} and a kernel {tuple(kernel.shape)} do not fit {n_in} voxels and "
            f"{len(kernel_map.sizes)} offsets"
        )
    if feats.dtype != kernel.dtype:
        raise ValueError(f"Features are {feats.dtype} and the kernel is {kernel.dtype}")
    require(n_out * kernel.shape[2] * feats.element_size(), voxels, feats.device)
    with as_resource_error(voxels):
        if epilogue is None:
            return _Convolve.apply(feats, kernel, kernel_map, transposed)
        return _forward(feats, kernel, kernel_map.transposed if transposed else kernel_map, epilogue)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, feats: Tensor, kernel: Tensor, kernel_map: KernelMap, transposed: bool) -> Tensor:
        ctx.save_for_backward(feats, kernel)
        ctx.ways = (kernel_map.transposed, kernel_map) if transposed else (kernel_map, kernel_map.transposed)
        return _forward(feats, kernel, ctx.ways[0])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        feats, kernel = ctx.saved_tensors
        there, back = ctx.ways
        want_feats, want_kernel, *_ = ctx.needs_input_grad
        by_feats = _forward(grad.to(kernel.dtype), kernel.transpose(1, 2), back) if want_feats else None
        return by_feats, _by_kernel(feats, grad, kernel, there) if want_kernel else None, None, None


def _forward(feats: Tensor, kernel: Tensor, kernel_map: KernelMap, epilogue: Epilogue | None = None) -> Tensor:
    feats, epilogue = feats.contiguous(), epilogue or Epilogue()
    out = arena.empty(kernel_map.n_out, kernel.shape[2], feats)
    if kernels.fits(feats, kernel.shape[2]):
        _run_layer(feats, kernel, kernel_map, out, epilogue)
        return out
    kernel = kernel.contiguous()

    def work(blocks: Iterable[Block]) -> None:
        for block in blocks:
            epilogue(_bag_sums(feats, kernel, kernel_map, block), block.rows, out[block.rows])

    run_on_threads(work, kernel_map.blocks(pairs_in_a_block(feats)), feats.device)
    return out


def _run_layer(feats: Tensor, kernel: Tensor, kernel_map: KernelMap, out: Tensor, epilogue: Epilogue) -> None:
    """All blocks, by compiled code that lays the kernel out once (:mod:`~ov3d_perception.sparse.layer_code`)."""
    columns, beside, matrix = kernel.shape[2], epilogue.shortcut, epilogue.matrix
    if epilogue.scale is not None:
        kernel = (kernel * epilogue.scale).to(kernel.dtype)
    bias = torch.zeros(columns) if epilogue.shift is None else epilogue.shift.float().contiguous()
    feats, weights = _even(feats), packed(kernel)
    cut, place = kernel_map.cut(pairs_in_a_block(feats)), (feats.data_ptr(), feats.shape[1], feats.shape[1])
    rest, kind = {"out": out.data_ptr(), "out_wide": columns, "columns": columns}, "none"
    if beside is not None:
        beside, kind = beside.contiguous() if matrix is None else _even(beside.contiguous()), "same"
        rest |= {"shortcut": beside.data_ptr(), "shortcut_wide": beside.shape[1]}
    if beside is not None and matrix is not None:
        panels, kind = packed(matrix[None]), "projected"
        rest |= {"shortcut_channels": beside.shape[1], "matrix": panels.data_ptr()}
    step = step_of(
        layer(columns, feats.dtype, kind, epilogue.relu), kernel_map, cut, place, weights.data_ptr(), bias, **rest
    )
    run_steps([step], cut.most * columns)


def _even(rows: Tensor) -> Tensor:
    """Bfloat16 with an even number of channels: they are multiplied two at a time."""
    return torch.nn.functional.pad(rows, (0, rows.shape[1] % 2)) if rows.dtype == torch.bfloat16 else rows


def _bag_sums(feats: Tensor, kernel: Tensor, kernel_map: KernelMap, block: Block) -> Tensor:
    """The block's rows: gather, multiply, sum."""
    begin, sizes = block.begin.tolist(), (block.end - block.begin).tolist()
    products = _scratch("products", (sum(sizes), kernel.shape[2]), feats.dtype, feats.device)
    for slot, start, size, place in zip(kernel_map.slots, begin, sizes, products.split(sizes), strict=True):
        if size:
            torch.mm(feats.index_select(0, kernel_map.in_rows[start : start + size]), kernel[slot], out=place)
    segments, rows = kernel_map.row_segments, block.rows
    start = segments.start[rows.start : rows.stop + 1]
    mine = slice(int(start[0]), int(start[-1]))
    moved = ((block.end - block.begin).cumsum(0) - block.end).int().to(feats.device)
    pair = segments.pair[mine] + moved.index_select(0, segments.segment[mine])
    return embedding_bag(pair, products, start - start[0], mode="sum", include_last_offset=True)


def _by_kernel(feats: Tensor, grad: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """The kernel's gradient: of each offset's matrix the sum of its pairs' outer products."""
    feats, grad = feats.contiguous(), grad.to(feats.dtype).contiguous()
    if kernels.fits(feats, kernel.shape[2]):
        return kernel_gradient(feats, grad, kernel_map).to(kernel.dtype)
    wide = torch.promote_types(kernel.dtype, torch.float32)
    sums = torch.zeros(kernel.shape, dtype=wide, device=kernel.device)
    for slot, (ins, outs) in zip(kernel_map.slots, kernel_map.pairs(), strict=True):
        sums[slot] = feats.index_select(0, ins).T @ grad.index_select(0, outs)
    return sums.to(kernel.dtype)


def multiply(feats: Float[Tensor, "n i"], kernel: Float[Tensor, "i o"]) -> Float[Tensor, "n o"]:
    """``feats @ kernel``, differentiable; without gradients, in memory of the arena, and by compiled code in float32
    (in bfloat16 PyTorch's own is as fast)."""
    if torch.is_grad_enabled() or torch.is_autocast_enabled(feats.device.type):
        return feats @ kernel
    out = arena.empty(len(feats), kernel.shape[1], feats)
    if feats.dtype == kernel.dtype == torch.float32 and kernels.fits(feats, kernel.shape[1]):
        return multiply_into(feats.contiguous(), kernel, out)
    return torch.mm(feats, kernel, out=out)


def _scratch(name: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A buffer by name and thread, reused from layer to layer: mapping fresh memory page by page takes as long as
    filling it.
    """
    kept: dict[Any, Tensor] = _kept.__dict__.setdefault("buffers", {})
    key, size = (name, dtype, device), int(torch.Size(shape).numel())
    if key not in kept or len(kept[key]) < size:
        with torch.inference_mode(False):
            kept[key] = torch.empty(size, dtype=dtype, device=device)
    return kept[key][:size].view(shape)
