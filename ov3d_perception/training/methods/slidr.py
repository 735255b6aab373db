"""SLidR as a training."""

from __future__ import annotations

from functools import partial

from jaxtyping import Float
from torch import Tensor

from ov3d_perception.methods import slidr
from ov3d_perception.recipes.method_specs import SlidrSpec
from ov3d_perception.training.data.superpixels import superpixels
from ov3d_perception.training.experiment import Experiment, Run, register
from ov3d_perception.training.methods import pixels
from ov3d_perception.training.methods.pixels import FramePairs, PixelStudent


@register(SlidrSpec)
def experiment(run: Run) -> Experiment:
    """Pairs of the sweeps drawn, each with its pixel's superpixel."""
    method = run.recipe.method
    assert isinstance(method, SlidrSpec)
    return pixels.experiment(run, SlidrModule, partial(superpixels, spec=method))


class SlidrModule(PixelStudent):
    """See :mod:`ov3d_perception.methods.slidr`."""

    def frame_losses(self, frame: FramePairs) -> dict[str, Float[Tensor, ""]]:
        """The method's one loss."""
        method = self.recipe.method
        assert isinstance(method, SlidrSpec)
        segment = frame.column("segment")
        return slidr.losses(slidr.SlidrStep(self.points(frame), frame.pixels, segment, method.temperature))
