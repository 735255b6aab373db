"""Batch normalisation by statistics of the whole training set, frozen for the rest of a training."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import nn

from ov3d_perception.sparse import SparseTensor
from ov3d_perception.training.data.clouds import CloudBatch, CloudDataset
from ov3d_perception.training.student import Student

MOST_FRAMES = 100
"""Frames that the statistics are estimated on, at most."""
_TURN = 1 << 31  # augmentations that no epoch draws


class FrozenNorm(lightning.Callback):
    """Estimates the statistics at a step of the training and freezes them from there on.

    A step sees few clouds, often one, and is normalised by their own mean and variance. The network learns to rely on
    that, and then is evaluated, and run live, by averages over other clouds: on SemanticKITTI it loses up to nine
    points by it. Wu and Johnson (Rethinking "Batch" in BatchNorm, 2021) name both halves of the remedy: statistics of
    the training set (PreciseBN), and a last part of the training that is normalised by them as evaluation is
    (FrozenBN).

    Args:
        dataset: the training's own clouds, augmented.
        first: the optimiser step from which the statistics are frozen.
    """

    def __init__(self, dataset: CloudDataset, first: int) -> None:
        self.dataset, self.first = dataset, first

    def on_train_batch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any) -> None:
        """Estimate and freeze when the step has come; a resumed run that has done so does not do it again."""
        assert isinstance(pl_module, Student)
        if pl_module.frozen_norm or trainer.global_step < self.first:
            return
        estimate(pl_module.network, self.dataset, pl_module.device)
        pl_module.frozen_norm = True
        pl_module.train()


def estimate(network: nn.Module, dataset: CloudDataset, device: torch.device | str) -> None:
    """Set the running statistics of all batch normalisations to the mean over the data set's clouds."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over the batches
    with torch.no_grad():
        for index in range(0, len(dataset), -(-len(dataset) // MOST_FRAMES)):
            batch: CloudBatch = dataset[_TURN, index].to(device)
            network(SparseTensor(batch.feats, batch.coords))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
