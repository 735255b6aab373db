"""Fine-tuning on labels: a new head of one output a class, cross-entropy, from a checkpoint or from random weights.

A fine-tuned network is evaluated by the same means as any other: its "words" are the classes, its "text" the unit
vectors, so that the class of the highest cosine is that of the highest output.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ov3d_perception.errors import RecipeError
from ov3d_perception.evaluation.result import Result
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.lifting.sources import (
    FrameSubset,
    as_prepared,
    class_vocabulary,
    open_source,
    preparation_of,
    require_classes,
)
from ov3d_perception.networks.registry import Network
from ov3d_perception.recipes.load import changed, split_of
from ov3d_perception.recipes.specs import Recipe
from ov3d_perception.sparse import SparseTensor
from ov3d_perception.training.balance import Balance
from ov3d_perception.training.callbacks import CheckpointCallback
from ov3d_perception.training.data.clouds import CloudBatch, CloudDataset, Columns
from ov3d_perception.training.data.readers import LabelReader
from ov3d_perception.training.experiment import Experiment
from ov3d_perception.training.initialise import HEAD, network_of
from ov3d_perception.training.run import claim, fit
from ov3d_perception.training.student import Student
from ov3d_perception.types import UNLABELLED


def finetune(
    recipe: Recipe,
    out: Path,
    split: str,
    init: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    fast: bool = False,
) -> Result:
    """Train on a labelled split and leave everything under ``out``; returns the evaluation on the validation source.

    Args:
        recipe: network, augmentations of the cloud, ``finetune`` section; its label set is the vocabulary's.
        out: the run's folder.
        split: a name under ``finetune.splits``.
        init: a pre-trained checkpoint of the same network; None starts from random weights.
        resume, device, fast: as for :func:`~ov3d_perception.training.run.train`.

    Raises:
        CheckpointError: as ``train``, and where ``init`` is another network.
        RecipeError: no such split, no vocabulary.
        DatasetError: nothing labelled, or labels of other classes than the vocabulary.
    """
    recipe = _for_labels(recipe, split, init, fast)
    assert recipe.vocabulary is not None
    claim(recipe, out, resume)
    lightning.seed_everything(recipe.seed, workers=True, verbose=False)
    vocabulary = class_vocabulary(LabelSet.load(recipe.vocabulary.labelset))
    source = open_source(recipe.train)
    preparation = preparation_of(source, recipe.method.cloud_sweeps(recipe.pairs.sweeps))
    validation = open_source(as_prepared(recipe.validation, preparation)) if recipe.validation else None
    for labelled in (source, validation):
        if labelled is not None:
            require_classes(labelled, vocabulary.names)
    if fast:
        source = FrameSubset(source, range(min(len(source), 2 * recipe.optimiser.batch)))
        validation = FrameSubset(validation, range(1)) if validation is not None else None
    network = network_of(recipe, vocabulary.identity)
    dataset = CloudDataset(LabelReader(source, recipe.pairs.sweeps), recipe, Columns())
    experiment = Experiment(dataset, lambda n: Labelled(network, recipe, n, len(vocabulary)), {})
    callback = CheckpointCallback(recipe, out, vocabulary.identity, vocabulary, validation, None, preparation)
    module = fit(recipe, out, experiment, callback, device)
    return callback.finish(module, {"split": split, "labelled frames": len(source), "from": str(init or "random")})


def _for_labels(recipe: Recipe, split: str, init: Path | None, fast: bool) -> Recipe:
    """The recipe of the fine-tuning run itself, as its folder and its checkpoint state it."""
    if recipe.vocabulary is None:
        raise RecipeError("Fine-tuning needs the classes", "Give the recipe a vocabulary with its labelset")
    spec = recipe.finetune
    return changed(
        recipe,
        {
            "train": asdict(split_of(recipe, split)),
            "network.init": None if init is None else str(init),
            "network.keep": 0.0,
            "method.name": "labels",
            "optimiser.epochs": 1 if fast else spec.epochs,
            "optimiser.learning_rate": spec.learning_rate,
            "optimiser.weight_decay": spec.weight_decay,
            "optimiser.algorithm": spec.algorithm,
            "optimiser.schedule": spec.schedule,
            "repeat": 1,
        },
    )


class Labelled(Student):
    """Cross-entropy over the labelled points; the new head learns at its own rate.

    Args:
        network, steps: as for :class:`~ov3d_perception.training.student.Student`.
        recipe: optimiser, and the section ``finetune``.
        classes: how many there are.
    """

    def __init__(self, network: Network, recipe: Recipe, steps: int, classes: int) -> None:
        super().__init__(network, recipe.optimiser, steps)
        self.head_rate = recipe.finetune.head_rate
        if recipe.finetune.balance > 0:
            self.balance = Balance(np.arange(classes), recipe.finetune.balance)

    def training_step(self, batch: CloudBatch, _: int) -> Float[Tensor, ""]:
        """The loss of one batch."""
        feats = self.network(SparseTensor(batch.feats, batch.coords)).feats
        assert batch.label is not None
        known = batch.label != UNLABELLED
        logits = self.network.head(feats)[batch.voxel[known]].float()
        label = batch.label[known]
        if self.balance is None:
            return self.log_loss(F.cross_entropy(logits, label))
        return self.log_loss((F.cross_entropy(logits, label, reduction="none") * self.balance.weights(label)).mean())

    def groups(self) -> list[tuple[list[torch.nn.Parameter], float]]:
        """The body at the recipe's rate, the head at its own."""
        head = {id(parameter) for name, parameter in self.network.named_parameters() if name.startswith(HEAD)}
        body = [p for p in self.network.parameters() if id(p) not in head]
        return [
            (body, self.spec.learning_rate),
            ([p for p in self.network.parameters() if id(p) in head], self.head_rate),
        ]
