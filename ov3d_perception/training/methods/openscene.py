"""OpenScene's distillation as a training: samples on disk, one target a voxel."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.lifting.frames import prepare_samples
from ov3d_perception.methods import openscene
from ov3d_perception.methods.kl import divergence
from ov3d_perception.methods.linear_head import HeadCosines
from ov3d_perception.networks.registry import Network
from ov3d_perception.recipes.method_specs import OpenSceneSpec
from ov3d_perception.recipes.specs import Recipe
from ov3d_perception.sparse import SparseTensor
from ov3d_perception.training.balance import Balance
from ov3d_perception.training.data.clouds import CloudBatch, CloudDataset, Columns, Targets
from ov3d_perception.training.data.readers import SampleReader
from ov3d_perception.training.experiment import Experiment, Run, register
from ov3d_perception.training.student import Student


@register(OpenSceneSpec)
def experiment(run: Run) -> Experiment:
    """Every frame is consolidated once; images of neighbouring frames may teach it too."""
    recipe, folder = run.recipe, run.folder
    prepared, counts = run.prepared(
        lambda: prepare_samples(run.source, run.teacher, recipe.pairs, folder, run.vocabulary)
    )
    reader = SampleReader(folder, prepared)
    dataset = CloudDataset(reader, recipe, Columns(targets=True))

    def module(steps: int) -> OpenSceneModule:
        return OpenSceneModule(run.network, recipe, steps, run.vocabulary, reader.basis)

    return Experiment(dataset, module, counts)


class OpenSceneModule(Student):
    """Trains ``network`` to say of a voxel what the teacher's pixels say.

    Args:
        network, steps: as for :class:`~ov3d_perception.training.student.Student`.
        recipe: method and optimiser.
        vocabulary: needed where the method balances the teacher's classes or asks for agreement over words.
        directions: orthogonal unit rows that the targets lie in; a method that holds the head holds it to them.
    """

    text: Tensor
    directions: Tensor | None

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        steps: int,
        vocabulary: Vocabulary | None = None,
        directions: Float[Tensor, "k d"] | None = None,
    ) -> None:
        super().__init__(network, recipe.optimiser, steps)
        assert isinstance(recipe.method, OpenSceneSpec)
        self.method = recipe.method
        self.register_buffer("directions", directions if recipe.method.held else None, persistent=False)
        self._hold()
        if vocabulary is not None:
            self.logit_scale = vocabulary.logit_scale
            self.register_buffer("text", torch.from_numpy(vocabulary.embeddings), persistent=False)
            if self.method.balance > 0:
                self.balance = Balance(vocabulary.prompt_class, self.method.balance)

    def follow(self) -> None:
        """Hold the head where it is held, then as every training."""
        self._hold()
        super().follow()

    @torch.no_grad()
    def _hold(self) -> None:
        if self.directions is not None:
            head = self.network.basis
            head.copy_(head @ self.directions.T @ self.directions)

    @torch.no_grad()
    def pixels(self, targets: Targets) -> tuple[Float[Tensor, "m d"], Float[Tensor, "m p"] | None]:
        """Each target's feature, and its cosines with the words, if there are any."""
        head = self.network.basis
        feature = targets.feature if len(targets.voxel) else head.new_zeros(0, head.shape[1], dtype=torch.float32)
        if not hasattr(self, "text"):
            return feature, None
        with torch.autocast(feature.device.type, enabled=False):
            return feature, feature @ self.text.T

    def weights(self, targets: Targets, words: Float[Tensor, "m p"] | None) -> Float[Tensor, " m"] | None:
        """Weight of each target by its class and its confidence; None where neither counts.

        words: the targets' cosines with them.
        """
        weight: Float[Tensor, " m"] | None = None
        if self.balance and words is not None:  # without a target, too: all processes count together
            weight = self.balance.weights(words.argmax(1))
        if self.method.confidence > 0:
            sure = targets.confidence**self.method.confidence
            weight = sure if weight is None else weight * sure
        return weight

    def agreement(
        self, student: HeadCosines, words: Float[Tensor, "m p"] | None, weight: Float[Tensor, " m"] | None
    ) -> Float[Tensor, ""]:
        """The divergence over the words between the network and the targets, whose cosines with them are ``words``."""
        assert words is not None
        return divergence(self.logit_scale * student.with_all(self.text), self.logit_scale * words, weight)

    def training_step(self, batch: CloudBatch, _: int) -> Float[Tensor, ""]:
        """The loss of one batch."""
        features = self.network(SparseTensor(batch.feats, batch.coords)).feats
        targets = batch.targets
        assert targets is not None
        pixels, words = self.pixels(targets)
        weight = self.weights(targets, words)
        student = HeadCosines(features.index_select(0, targets.voxel), self.network.basis)
        (loss,) = openscene.losses(openscene.OpenSceneStep(student, pixels, weight)).values()
        if self.method.agreement == 0:
            return self.log_loss(loss)
        agreement = self.agreement(student, words, weight)
        return self.log_loss(loss + self.method.agreement * agreement, agreement=agreement)
