"""GGSD as a training: distillation and self-distillation on whole clouds (:mod:`ov3d_perception.methods.ggsd`).

The paper's two stages are two phases of a recipe: ``method.self_distillation`` is 0 in the first.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ov3d_perception.errors import RecipeError
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.lifting.frames import prepare_samples
from ov3d_perception.methods import ggsd
from ov3d_perception.methods.linear_head import HeadCosines
from ov3d_perception.networks.registry import Network
from ov3d_perception.recipes.method_specs import GgsdSpec
from ov3d_perception.recipes.specs import Recipe
from ov3d_perception.sparse import SparseTensor
from ov3d_perception.training.alignment import Alignment
from ov3d_perception.training.data.clouds import CloudBatch, CloudDataset, Columns
from ov3d_perception.training.data.readers import SampleReader
from ov3d_perception.training.data.superpoints import stored_superpoints, voxel_superpoints
from ov3d_perception.training.experiment import Experiment, Run, register
from ov3d_perception.training.label_watch import LabelWatch
from ov3d_perception.training.methods.openscene import OpenSceneModule

log = logging.getLogger(__name__)


@register(GgsdSpec)
def experiment(run: Run) -> Experiment:
    """Samples as OpenScene's, with superpoints; frames that no pixel sees take part where a network teaches itself.

    Raises RecipeError where self-distillation has no averaged network to be taught by.
    """
    recipe, folder, method = run.recipe, run.folder, run.recipe.method
    assert isinstance(method, GgsdSpec)
    itself = method.self_distillation > 0
    if itself and recipe.optimiser.ema_decay == 0:
        raise RecipeError(
            "Self-distillation is taught by the average of the weights, and optimiser.ema_decay is 0",
            "Set it, to 0.99 say, or method.self_distillation to 0",
        )
    prepared, counts = run.prepared(
        lambda: prepare_samples(run.source, run.teacher, recipe.pairs, folder, run.vocabulary, itself)
    )
    superpoints = partial(stored_superpoints, spec=method) if itself or method.superpoint > 0 else None
    reader = SampleReader(folder, prepared, superpoints)
    dataset = CloudDataset(reader, recipe, Columns(targets=True))

    def module(steps: int) -> GgsdModule:
        return GgsdModule(run.network, recipe, steps, run.vocabulary, reader.basis)

    return Experiment(dataset, module, counts)


class GgsdModule(OpenSceneModule):
    """Trains ``network`` on every voxel of a cloud. The paper's points are voxels here.

    Arguments as for :class:`~.openscene.OpenSceneModule`; the vocabulary is needed for self-distillation, too.
    """

    word_class: Tensor

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        steps: int,
        vocabulary: Vocabulary | None = None,
        directions: Float[Tensor, "k d"] | None = None,
    ) -> None:
        super().__init__(network, recipe, steps, vocabulary, directions)
        method = recipe.method
        assert isinstance(method, GgsdSpec)
        self.options = ggsd.GgsdOptions(method.superpoint, method.self_distillation, method.tau)
        self.watch: LabelWatch | None = None
        self.alignment = Alignment() if method.align else None
        if vocabulary is not None:
            self.register_buffer("word_class", torch.from_numpy(vocabulary.prompt_class).long(), persistent=False)
            if method.self_distillation > 0:
                self.watch = LabelWatch(vocabulary.names)

    def training_step(self, batch: CloudBatch, _: int) -> Float[Tensor, ""]:
        """The loss of one batch."""
        cloud = SparseTensor(batch.feats, batch.coords)
        features, targets = self.network(cloud).feats, batch.targets
        assert targets is not None
        head, count = self.network.basis, len(features)
        pixels, words = self.pixels(targets)
        none = torch.full((count,), -1, dtype=torch.int64, device=features.device)
        of_voxels = none if batch.superpoint is None else voxel_superpoints(batch.voxel, batch.superpoint, count)
        itself = self.options.self_distillation > 0
        step = ggsd.GgsdStep(
            points=features,
            head=head,
            seen=targets.voxel,
            pixels=pixels,
            superpoint=of_voxels,
            text=self.text if itself else head.new_zeros(0, head.shape[1]),
            word_class=self.word_class if itself else none[:0],
            label=self.labels(cloud, of_voxels) if itself else None,
            weight=self.weights(targets, words),
        )
        parts = ggsd.losses(step, self.options)
        if self.method.agreement > 0:
            student = HeadCosines(features[targets.voxel], head)
            parts["agreement"] = self.method.agreement * self.agreement(student, words, step.weight)
        return self.log_loss(torch.stack(list(parts.values())).sum(), **parts)

    @torch.no_grad()
    def labels(self, cloud: SparseTensor, superpoint: Int64[Tensor, " v"]) -> Int64[Tensor, " v"]:
        """The averaged network's labels of the voxels, voted in superpoints; counted for the epoch's report."""
        assert self.average is not None
        self.average.eval()  # with the statistics of many clouds, not of this one
        teacher = self.student
        psi = HeadCosines(teacher(cloud).feats, teacher.basis).with_all(self.text)
        offset = None
        if self.alignment is not None:
            offset = self.alignment.offset(ggsd.class_scores(psi, self.word_class, self.options.tau).softmax(1))
        label = ggsd.pseudo_labels(psi, self.word_class, self.options.tau, offset)
        voted = ggsd.vote(label, superpoint, int(self.word_class.max()) + 1)
        if self.watch is not None:
            self.watch.add(label, voted)
        return voted

    def on_train_epoch_end(self) -> None:
        """Say what the network has taught itself, and whether it collapses."""
        if self.watch is None:
            return
        report = self.watch.close()
        log.info("Epoch %d, self-distillation: %s", self.current_epoch, report)
        for warning in report.warnings:
            log.warning("Self-distillation may collapse: %s", warning)
        for name, value in report.metrics().items():
            self.log(name, value, on_step=False, on_epoch=True, batch_size=1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """As every training, and the shares of the classes in the first epoch and of late."""
        super().on_save_checkpoint(checkpoint)
        if self.alignment is not None:
            checkpoint["alignment"] = self.alignment.state()
        if self.watch is not None:
            checkpoint["label_watch"] = self.watch.first or self.watch.shares()  # this is called before the report

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put them back."""
        super().on_load_checkpoint(checkpoint)
        if self.alignment is not None:
            self.alignment.restore(checkpoint["alignment"])
        if self.watch is not None:
            self.watch.first = checkpoint["label_watch"]
