"""What CLIP2Scene's tables compare with, as trainings: the distillation of logits, PPKT, SLidR."""

from __future__ import annotations

from functools import partial

from jaxtyping import Float
from torch import Tensor

from ov3d_perception.methods import kl, ppkt, slidr
from ov3d_perception.recipes.method_specs import KlSpec, PpktSpec, SlidrSpec
from ov3d_perception.training.data.superpixels import superpixels
from ov3d_perception.training.experiment import Experiment, Run, register
from ov3d_perception.training.methods import pixels
from ov3d_perception.training.methods.pixels import FramePairs, PixelStudent


class KlModule(PixelStudent):
    """See :mod:`ov3d_perception.methods.kl`."""

    def frame_losses(self, frame: FramePairs) -> dict[str, Float[Tensor, ""]]:
        """The method's one loss."""
        weight = self.balance.weights(frame.word) if self.balance else None
        return kl.losses(kl.KlStep(self.points(frame), frame.pixels, self.text, self.logit_scale, weight))


class PpktModule(PixelStudent):
    """See :mod:`ov3d_perception.methods.ppkt`."""

    def frame_losses(self, frame: FramePairs) -> dict[str, Float[Tensor, ""]]:
        """The method's one loss."""
        method = self.recipe.method
        assert isinstance(method, PpktSpec)
        return ppkt.losses(ppkt.PpktStep(self.points(frame), frame.pixels, method.samples, method.temperature))


class SlidrModule(PixelStudent):
    """See :mod:`ov3d_perception.methods.slidr`."""

    def frame_losses(self, frame: FramePairs) -> dict[str, Float[Tensor, ""]]:
        """The method's one loss."""
        method = self.recipe.method
        assert isinstance(method, SlidrSpec)
        segment = frame.column("segment")
        return slidr.losses(slidr.SlidrStep(self.points(frame), frame.pixels, segment, method.temperature))


@register(KlSpec)
def kl_experiment(run: Run) -> Experiment:
    """Pairs of the sweeps drawn."""
    return pixels.experiment(run, KlModule)


@register(PpktSpec)
def ppkt_experiment(run: Run) -> Experiment:
    """Pairs of the sweeps drawn."""
    return pixels.experiment(run, PpktModule)


@register(SlidrSpec)
def slidr_experiment(run: Run) -> Experiment:
    """Pairs of the sweeps drawn, each with its pixel's superpixel."""
    method = run.recipe.method
    assert isinstance(method, SlidrSpec)
    return pixels.experiment(run, SlidrModule, partial(superpixels, spec=method))
