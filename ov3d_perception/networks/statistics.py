"""Statistics of batch normalisation, estimated anew on given clouds."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from ov3d_perception.networks.registry import Network
from ov3d_perception.sparse import SparseTensor


def estimate_statistics(network: Network, clouds: Iterable[SparseTensor]) -> int:
    """Set the running mean and variance of every batch normalisation to their mean over the clouds; returns how many.

    Weights stay. With clouds of the training set this is PreciseBN (Wu and Johnson, 2021), with clouds of another
    domain adaptive batch normalisation (Li et al., "Adaptive Batch Normalization for practical domain adaptation",
    2018). The network is left in training mode. Without a cloud nothing is changed.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d)]
    kept = [norm.momentum for norm in norms]
    network.train()
    count = 0
    try:
        with torch.no_grad():
            for cloud in clouds:
                for norm in norms if count == 0 else ():
                    norm.reset_running_stats()
                    norm.momentum = None  # the plain mean over what follows
                network(cloud)
                count += 1
    finally:
        for norm, momentum in zip(norms, kept, strict=True):
            norm.momentum = momentum
    return count
