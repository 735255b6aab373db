"""Batch normalisation folded into the convolution before it, for inference."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ov3d_perception.networks.minkunet import BasicBlock, MinkUNet
from ov3d_perception.sparse import BatchNorm


def fold_batch_norm(network: MinkUNet) -> MinkUNet:
    """A copy in evaluation mode in which every normalisation is part of its convolution's kernel and bias."""
    network = copy.deepcopy(network).eval()
    for name, norm in [(n, m) for n, m in network.named_children() if isinstance(m, BatchNorm)]:
        _fold(getattr(network, _convolution_before(network, name)), norm)
        setattr(network, name, nn.Identity())
    for block in network.modules():
        if isinstance(block, BasicBlock):
            _fold(block.conv1, block.norm1)
            _fold(block.conv2, block.norm2)
            block.norm1 = block.norm2 = nn.Identity()
            if block.downsample is not None:
                _fold(block.downsample[0], block.downsample[1])
                block.downsample[1] = nn.Identity()
    return network


def _convolution_before(network: MinkUNet, norm: str) -> str:
    """bn0 -> conv0p1s1, bntr4 -> convtr4p16s2: the same prefix and number."""
    prefix = norm.replace("bn", "conv", 1)
    return next(name for name, _ in network.named_children() if name.startswith(prefix + "p"))


@torch.no_grad()
def _fold(convolution: nn.Module, norm: BatchNorm) -> None:
    bn = norm.bn
    scale = bn.weight * torch.rsqrt(bn.running_var + bn.eps)
    bias = bn.bias - bn.running_mean * scale
    if convolution.bias is not None:
        bias = bias + convolution.bias[0] * scale
    convolution.kernel.copy_(convolution.kernel * scale)
    convolution.bias = nn.Parameter(bias[None])
