"""Batch normalisation folded into the convolution before it, for inference."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ov3d_perception.networks.minkunet import BasicBlock, MinkUNet
from ov3d_perception.sparse import BatchNorm, Conv3d, ConvTranspose3d


def fold_batch_norm(network: MinkUNet) -> MinkUNet:
    """A copy in evaluation mode in which every normalisation is part of its convolution's kernel and bias."""
    network = copy.deepcopy(network).eval()
    names = [name for name, _ in network.named_children()]
    for norm in (name for name in names if name.startswith("bn")):
        # bn0 follows conv0p1s1, bntr4 follows convtr4p16s2
        convolution = next(name for name in names if name.startswith(norm.replace("bn", "conv", 1) + "p"))
        _fold(network, convolution, norm)
    for block in network.modules():
        if isinstance(block, BasicBlock):
            _fold(block, "conv1", "norm1")
            _fold(block, "conv2", "norm2")
            if block.downsample is not None:
                _fold(block.downsample, "0", "1")
    return network


@torch.no_grad()
def _fold(parent: nn.Module, convolution_name: str, norm_name: str) -> None:
    convolution, norm = parent.get_submodule(convolution_name), parent.get_submodule(norm_name)
    assert isinstance(convolution, (Conv3d, ConvTranspose3d)) and isinstance(norm, BatchNorm)
    bn = norm.bn
    assert bn.running_mean is not None and bn.running_var is not None
    scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    bias = bn.bias - bn.running_mean * scale
    if convolution.bias is not None:
        bias = bias + convolution.bias[0] * scale
    convolution.kernel.mul_(scale)
    convolution.bias = nn.Parameter(bias[None])
    setattr(parent, norm_name, nn.Identity())
