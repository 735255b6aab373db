"""Fine-tuning on labels: a new head of one output a class, cross-entropy, from a checkpoint or from random weights.

A fine-tuned network is evaluated by the same means as any other: its "words" are the classes, its "text" the unit
vectors, so that the class of the highest cosine is that of the highest output.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.data import Dataset

from ov3d_perception.errors import DatasetError, RecipeError
from ov3d_perception.evaluation.result import Result
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.lifting.sources import (
    Chosen,
    as_prepared,
    class_vocabulary,
    open_source,
    preparation_of,
    require_classes,
)
from ov3d_perception.networks.inputs import point_inputs
from ov3d_perception.networks.registry import Network
from ov3d_perception.recipes.specs import Recipe, changed, split_of
from ov3d_perception.sparse import SparseTensor, quantize
from ov3d_perception.training.callbacks import Keeper
from ov3d_perception.training.data.augment import augment
from ov3d_perception.training.data.scenes import first_usable
from ov3d_perception.training.initialise import HEAD
from ov3d_perception.training.plans import Plan, network_of
from ov3d_perception.training.run import claim, fit, trained_sweeps
from ov3d_perception.training.student import Student
from ov3d_perception.types import UNLABELLED, Frame


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
        resume, device, fast: as for :func:`~ov3d_perception.training.run.distill`.

    Raises:
        CheckpointError: as ``distill``, and where ``init`` is another network.
        RecipeError: no such split, no vocabulary.
        DatasetError: nothing labelled, or labels of other classes than the vocabulary.
    """
    recipe = _for_labels(recipe, split, init, fast)
    assert recipe.vocabulary is not None
    last = claim(recipe, out, resume)
    lightning.seed_everything(recipe.seed, workers=True, verbose=False)
    vocabulary = class_vocabulary(LabelSet.load(recipe.vocabulary.labelset))
    source = open_source(recipe.train)
    preparation = preparation_of(source, trained_sweeps(recipe))
    validation = open_source(as_prepared(recipe.validation, preparation)) if recipe.validation else None
    for labelled in (source, validation):
        if labelled is not None:
            require_classes(labelled, vocabulary.names)
    if fast:
        source = Chosen(source, range(min(len(source), 2 * recipe.optimiser.batch)))
        validation = Chosen(validation, range(1)) if validation is not None else None
    network = network_of(recipe, vocabulary.identity)
    dataset = LabelledClouds(source, recipe)
    rate = recipe.finetune.head_rate
    planned = Plan(dataset, len(dataset), collate_labelled, lambda n: Labelled(network, recipe, n, rate), {})
    keeper = Keeper(recipe, out, vocabulary.identity, vocabulary, validation, None, preparation)
    module = fit(recipe, out, planned, keeper, device, last)
    return keeper.finish(module, {"split": split, "labelled frames": len(source), "from": str(init or "random")})


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
            "method.name": "labels",
            "optimiser.epochs": 1 if fast else spec.epochs,
            "optimiser.learning_rate": spec.learning_rate,
            "optimiser.weight_decay": spec.weight_decay,
            "optimiser.algorithm": "sgd",
            "optimiser.schedule": "cosine",
            "repeat": 1,
        },
    )


@dataclass(frozen=True)
class LabelledBatch:
    """coords: [batch, x, y, z]; feats: inputs of each voxel; voxel, label: of each labelled point."""

    coords: Int64[Tensor, "v 4"]
    feats: Float[Tensor, "v c"]
    voxel: Int64[Tensor, " m"]
    label: Int64[Tensor, " m"]
    faults: tuple[str, ...] = ()
    lost: Counter[str] = field(default_factory=Counter)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> LabelledBatch:
        """The same on another device."""
        names = ("coords", "feats", "voxel", "label")
        return replace(self, **{n: getattr(self, n).to(device, non_blocking=non_blocking) for n in names})


class LabelledClouds(Dataset[LabelledBatch]):
    """Key sweeps with their labels; ``[(turn, index)]`` gives one, augmented by (seed, turn, index) alone."""

    def __init__(self, source: Sequence[Frame], recipe: Recipe) -> None:
        self.source, self.recipe = source, recipe

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> LabelledBatch:
        turn, index = key
        rng = np.random.default_rng((self.recipe.seed, turn, index))
        batch, faults, lost = first_usable(self.source, index, lambda frame: self._cloud(frame, rng))
        return replace(batch, faults=faults, lost=lost)

    def _cloud(self, frame: Frame, rng: np.random.Generator) -> LabelledBatch:
        spec, scan = self.recipe.network, frame.sweeps[0].scan
        known = np.zeros(0, np.int64) if frame.labels is None else np.flatnonzero(frame.labels != UNLABELLED)
        if frame.labels is None or len(known) == 0:
            raise DatasetError(f"{frame.name} has no label", "Take a labelled split")
        xyz, intensity, keep = augment(scan.xyz, scan.intensity, self.recipe.augment, rng, known)
        keep[known[0]] |= not keep[known].any()
        points, strength = torch.from_numpy(xyz[keep]), torch.from_numpy(intensity[keep])
        inputs = point_inputs(spec.inputs, points, strength, spec.voxel_size)
        coords, feats, voxel = quantize(points, spec.voxel_size, inputs)
        label = torch.from_numpy(frame.labels[keep].astype(np.int64))
        return LabelledBatch(coords, feats, voxel[label != UNLABELLED], label[label != UNLABELLED])


def collate_labelled(items: Sequence[LabelledBatch]) -> LabelledBatch:
    """Several clouds in one batch."""
    first = np.cumsum([0, *(len(item.coords) for item in items[:-1])]).tolist()
    coords = [item.coords + torch.tensor([number, 0, 0, 0]) for number, item in enumerate(items)]
    return LabelledBatch(
        torch.cat(coords),
        torch.cat([item.feats for item in items]),
        torch.cat([item.voxel + offset for item, offset in zip(items, first, strict=True)]),
        torch.cat([item.label for item in items]),
        tuple(fault for item in items for fault in item.faults),
        sum((item.lost for item in items), Counter()),
    )


class Labelled(Student):
    """Cross-entropy over the labelled points; the new head learns at its own rate."""

    def __init__(self, network: Network, recipe: Recipe, steps: int, head_rate: float) -> None:
        super().__init__(network, recipe.optimiser, steps)
        self.head_rate = head_rate

    def training_step(self, batch: LabelledBatch, _: int) -> Float[Tensor, ""]:
        """The loss of one batch."""
        narrow = self.network(SparseTensor(batch.feats, batch.coords)).feats
        return self.log_loss(F.cross_entropy(self.network.head(narrow)[batch.voxel].float(), batch.label))

    def groups(self) -> list[tuple[list[torch.nn.Parameter], float]]:
        """The body at the recipe's rate, the head at its own."""
        head = {id(parameter) for name, parameter in self.network.named_parameters() if name.startswith(HEAD)}
        body = [p for p in self.network.parameters() if id(p) not in head]
        return [
            (body, self.spec.learning_rate),
            ([p for p in self.network.parameters() if id(p) in head], self.head_rate),
        ]
