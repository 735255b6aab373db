"""The methods of the papers as trainings; importing this package registers them all."""

from ov3d_perception.training.methods import clip2scene, ggsd, kl, openscene, ppkt, slidr

__all__ = ["clip2scene", "ggsd", "kl", "openscene", "ppkt", "slidr"]
