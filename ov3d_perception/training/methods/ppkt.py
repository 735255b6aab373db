"""PPKT as a training."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ov3d_perception.methods import ppkt
from ov3d_perception.recipes.method_specs import PpktSpec
from ov3d_perception.training.experiment import Experiment, Run, register
from ov3d_perception.training.methods import pixels
from ov3d_perception.training.methods.pixels import FramePairs, PixelStudent


@register(PpktSpec)
def experiment(run: Run) -> Experiment:
    """Pairs of the sweeps drawn."""
    return pixels.experiment(run, PpktModule)


class PpktModule(PixelStudent):
    """See :mod:`ov3d_perception.methods.ppkt`."""

    def frame_losses(self, frame: FramePairs) -> dict[str, Float[Tensor, ""]]:
        """The method's one loss."""
        method = self.recipe.method
        assert isinstance(method, PpktSpec)
        return ppkt.losses(ppkt.PpktStep(self.points(frame), frame.pixels, method.samples, method.temperature))
