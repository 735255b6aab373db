"""The distillation of logits as a training."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ov3d_perception.methods import kl
from ov3d_perception.recipes.method_specs import KlSpec
from ov3d_perception.training.experiment import Experiment, Run, register
from ov3d_perception.training.methods import pixels
from ov3d_perception.training.methods.pixels import FramePairs, PixelStudent


@register(KlSpec)
def experiment(run: Run) -> Experiment:
    """Pairs of the sweeps drawn."""
    return pixels.experiment(run, KlModule)


class KlModule(PixelStudent):
    """See :mod:`ov3d_perception.methods.kl`."""

    def frame_losses(self, frame: FramePairs) -> dict[str, Float[Tensor, ""]]:
        """The method's one loss."""
        weight = self.balance.weights(frame.word) if self.balance else None
        return kl.losses(kl.KlStep(self.points(frame), frame.pixels, self.text, self.logit_scale, weight))
