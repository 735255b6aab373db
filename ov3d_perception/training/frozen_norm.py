"""Batch normalisation by statistics of the whole training set, frozen for the rest of a training."""

from __future__ import annotations

from typing import Any

import lightning

from ov3d_perception.networks.statistics import estimate_statistics
from ov3d_perception.sparse import SparseTensor
from ov3d_perception.training.data.clouds import CloudDataset
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
        every = -(-len(self.dataset) // MOST_FRAMES)
        batches = (self.dataset[_TURN, index].to(pl_module.device) for index in range(0, len(self.dataset), every))
        estimate_statistics(pl_module.network, (SparseTensor(batch.feats, batch.coords) for batch in batches))
        pl_module.frozen_norm = True
        pl_module.train()
