"""Labelled images for the small CLIP, from the simulated street's cache."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ov3d_perception.datasets.simulated import Simulated
from ov3d_perception.street_clip.crops import LabelledImage
from ov3d_perception.street_clip.trainer import WorldSettings
from ov3d_perception.types import UNLABELLED


def open_worlds(settings: WorldSettings, seeds: str, cache: Path = Path()) -> Simulated:
    """The drives of ``seeds``; an empty ``cache`` is the data set's default folder."""
    size = settings.image_size
    return Simulated(cache, seeds=seeds, frames=settings.frames, stride=settings.stride, image_size=size)


def load_images(settings: WorldSettings, cache: Path = Path(), workers: int = 2) -> list[LabelledImage]:
    """All images of every ``settings.every``-th frame of the training drives; what is not rendered yet is rendered."""
    source = open_worlds(settings, settings.seeds, cache)
    source.prepare(workers)
    with ThreadPoolExecutor(workers) as pool:
        frames = pool.map(lambda number: _images(source, number), range(0, len(source), settings.every))
        return [image for frame in frames for image in frame]


def _images(source: Simulated, number: int) -> list[LabelledImage]:
    rendered = source.rendered(number)
    return [
        LabelledImage(view.image, np.where(classes == UNLABELLED, -1, classes).astype(np.int8))
        for view, classes in zip(rendered.frame.views, rendered.class_images, strict=True)
    ]
