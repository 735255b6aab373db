"""CLIP2Scene as a training: the state beside its equations (:mod:`ov3d_perception.methods.clip2scene`)."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from ov3d_perception.methods import clip2scene
from ov3d_perception.recipes.method_specs import Clip2SceneSpec
from ov3d_perception.training.experiment import Experiment, Run, register
from ov3d_perception.training.methods import pixels
from ov3d_perception.training.methods.pixels import FramePairs, PixelStudent


@register(Clip2SceneSpec)
def experiment(run: Run) -> Experiment:
    """Pairs of the sweeps drawn, and their grids."""
    return pixels.experiment(run, Clip2SceneModule)


class Clip2SceneModule(PixelStudent):
    """The head of equation (1) is the network's own, which is kept; that of equation (2) is ``spatial_head``."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        method = self.recipe.method
        assert isinstance(method, Clip2SceneSpec)
        self.self_training = clip2scene.SelfTraining(method.switch_after, method.switch)
        self.options = clip2scene.Clip2SceneOptions(
            semantic=method.semantic,
            spatial=method.spatial,
            tau=method.tau,
            attention=method.attention,
            form=method.form,
            logit_scale=self.logit_scale,
            class_weight=self.balance.weights if self.balance else None,
        )
        self.spatial_head: nn.Linear | None = None
        if method.spatial > 0:
            self.spatial_head = nn.Linear(self.network.feature_dim, self.text.shape[1], bias=False)

    def frame_losses(self, frame: FramePairs) -> dict[str, Float[Tensor, ""]]:
        """Equations (1) and (2)."""
        step = clip2scene.Clip2SceneStep(
            pixels=frame.pixels,
            word=frame.word,
            semantic=self.network.head(frame.feats).float(),
            spatial=None if self.spatial_head is None else self.spatial_head(frame.feats).float(),
            sweep=frame.column("sweep"),
            grid=frame.column("grid"),
            text=self.text,
            word_class=self.word_class,
            self_trained=self.self_training.applies(self.current_epoch, self.recipe.seed, self.global_step),
        )
        return clip2scene.losses(step, self.options)
