"""Convolution, normalisation, shortcut and activation in one pass over the rows, where no gradients are recorded."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ov3d_perception.sparse import batch_norm as batch_norm_
from ov3d_perception.sparse.epilogue import Epilogue
from ov3d_perception.sparse.modules import BatchNorm, Conv3d, ConvTranspose3d, ReLU
from ov3d_perception.sparse.recording import Traced, UntraceableError
from ov3d_perception.sparse.tensor import SparseTensor

Affine = tuple[Float[Tensor, " c"] | None, Float[Tensor, " c"] | None]


def convolve_normalised(
    conv: Conv3d | ConvTranspose3d,
    norm: nn.Module,
    activation: nn.Module,
    x: SparseTensor,
    shortcut: SparseTensor | None = None,
    projection: nn.Sequential | None = None,
) -> SparseTensor:
    """``activation(norm(conv(x)) + projection(shortcut))``.

    norm: a batch normalisation, or an Identity where it has been folded; shortcut: on the output's voxels;
    projection: a pointwise convolution and its norm, the identity if absent. In training, and for activations other
    than ReLU, the layers run one after the other; else they run block by block while the rows are in the cache.
    """
    if isinstance(x, Traced):
        if not isinstance(activation, ReLU):
            raise UntraceableError(f"no compiled layer with {activation}")
        return x.convolve(conv, norm, shortcut, None if projection is None else (projection[0], projection[1]))
    plain = torch.is_grad_enabled() or torch.is_autocast_enabled(x.feats.device.type) or norm.training
    if plain or not isinstance(activation, ReLU):
        return _one_by_one(conv(x), norm, activation, shortcut, projection)
    scale, shift, matrix = affine(conv, norm, None if projection is None else (projection[0], projection[1]))
    return conv(x, Epilogue(scale, shift, None if shortcut is None else shortcut.feats, matrix, relu=True))


def _one_by_one(
    out: SparseTensor,
    norm: nn.Module,
    activation: nn.Module,
    shortcut: SparseTensor | None,
    projection: nn.Sequential | None,
) -> SparseTensor:
    """What follows a convolution in training; of it norm, sum and ReLU in one pass where there is code for that."""
    beside = None
    if shortcut is not None:
        beside = shortcut.feats
        if projection is not None:
            pointwise, its_norm = projection
            beside = _normalised(pointwise(shortcut), its_norm, None, None).feats
    return _normalised(out, norm, beside, activation)


def _normalised(
    out: SparseTensor, norm: nn.Module, beside: Tensor | None, activation: nn.Module | None
) -> SparseTensor:
    batch_norm = norm.bn if isinstance(norm, BatchNorm) else norm
    if batch_norm_.fits(out.feats, batch_norm) and (activation is None or isinstance(activation, ReLU)):
        assert isinstance(batch_norm, nn.BatchNorm1d)
        return out.replace(batch_norm_.normalise(out.feats, batch_norm, beside, activation is not None))
    out = norm(out)
    if beside is not None:
        out = out.replace(out.feats + beside)
    return out if activation is None else activation(out)


def affine(
    conv: Conv3d | ConvTranspose3d, norm: nn.Module, projection: tuple[nn.Module, nn.Module] | None = None
) -> tuple[Tensor | None, Tensor | None, Float[Tensor, "i c"] | None]:
    """Scale and shift of the convolution's result by bias and norm in evaluation mode, the projection's shift among it;
    the projection's matrix, its norm among it."""
    scale, shift = _affine(conv, norm)
    if projection is None:
        return scale, shift, None
    pointwise, its_norm = projection
    assert isinstance(pointwise, Conv3d) and pointwise.pointwise
    its_scale, its_shift = _affine(pointwise, its_norm)
    matrix = pointwise.kernel if its_scale is None else (pointwise.kernel * its_scale).to(pointwise.kernel.dtype)
    shift = its_shift if shift is None else shift if its_shift is None else shift + its_shift
    return scale, shift, matrix


def _affine(conv: Conv3d | ConvTranspose3d, norm: nn.Module) -> Affine:
    """Bias and norm as one scale and one shift of the convolution's result."""
    bias = None if conv.bias is None else conv.bias.flatten()
    batch_norm = norm.bn if isinstance(norm, BatchNorm) else norm
    if not isinstance(batch_norm, nn.BatchNorm1d):
        return None, bias
    assert batch_norm.running_mean is not None and batch_norm.running_var is not None
    wide = torch.promote_types(batch_norm.weight.dtype, torch.float32)
    scale = batch_norm.weight.to(wide) / torch.sqrt(batch_norm.running_var.to(wide) + batch_norm.eps)
    shift = batch_norm.bias - batch_norm.running_mean * scale
    return scale, shift if bias is None else shift + bias * scale
