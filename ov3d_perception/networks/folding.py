"""Batch normalisation folded into the layer before it, for inference."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import nn

from ov3d_perception.sparse import BatchNorm, Conv3d, ConvTranspose3d

N = TypeVar("N", bound=nn.Module)
Layer = Conv3d | ConvTranspose3d | nn.Linear


def fold_batch_norm(network: N) -> N:
    """A copy in evaluation mode in which every normalisation is part of its layer's weights and bias.

    A norm belongs to the layer before it in a Sequential, else to the layer of its name: norm1 to conv1, bn0 to
    conv0p1s1, bntr4 to convtr4p16s2.
    """
    network = copy.deepcopy(network).eval()
    for parent in list(network.modules()):
        for layer, name, norm in list(_normalised(parent)):
            _fold(layer, norm)
            setattr(parent, name, nn.Identity().eval())
    return network


def _normalised(parent: nn.Module) -> Iterator[tuple[Layer, str, nn.BatchNorm1d]]:
    """Layers among the children, each with its norm and the norm's name."""
    if isinstance(parent, BatchNorm):
        return
    children = dict(parent.named_children())
    for name, child in children.items():
        norm = child.bn if isinstance(child, BatchNorm) else child
        if not isinstance(norm, nn.BatchNorm1d):
            continue
        if isinstance(parent, nn.Sequential):
            layer = children[str(int(name) - 1)]
        else:
            stem = name.replace("norm", "conv").replace("bn", "conv")
            layer = next(other for key, other in children.items() if key == stem or key.startswith(f"{stem}p"))
        assert isinstance(layer, Layer)
        yield layer, name, norm


@torch.no_grad()
def _fold(layer: Layer, norm: nn.BatchNorm1d) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bias = norm.bias - norm.running_mean * scale
    if layer.bias is not None:
        bias = bias + layer.bias.flatten() * scale
    if isinstance(layer, nn.Linear):
        layer.weight.mul_(scale[:, None])
        layer.bias = nn.Parameter(bias)
    else:
        layer.kernel.mul_(scale)
        layer.bias = nn.Parameter(bias[None])
