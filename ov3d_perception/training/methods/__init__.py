"""The methods of the papers as trainings; importing this package registers them all."""

from ov3d_perception.training.methods import baselines, clip2scene, ggsd, openscene

__all__ = ["baselines", "clip2scene", "ggsd", "openscene"]
