"""What a teacher makes of an image: each patch in the colour of its class, beside the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ov3d_perception.evaluation.score import classify
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.types import Frame
from ov3d_perception.viz.canvas import legend, present
from ov3d_perception.viz.palette import colourise, colours

_OPACITY = 0.6


class PixelPictures:
    """Draws the first view of the first frames, the image above and the answer below; to be given as a watch.

    Args:
        folder: a picture ``<frame> <teacher>.png`` each.
        vocabulary: the words to tell apart.
        count: of frames of each teacher.
    """

    def __init__(self, folder: Path, vocabulary: Vocabulary, count: int) -> None:
        self.folder, self.vocabulary, self.count = folder, vocabulary, count
        self._drawn: dict[str, int] = {}

    def __call__(self, frame: Frame, name: str, teacher: ImageTeacher) -> None:
        """Draw a frame as a teacher sees it, if it is among its first."""
        if self._drawn.setdefault(name, 0) == self.count:
            return
        self._drawn[name] += 1
        self.folder.mkdir(parents=True, exist_ok=True)
        picture = self.draw(frame.views[0].image, teacher)
        Image.fromarray(picture).save(self.folder / f"{frame.name} {name}.png".replace("/", "_").replace(" ", "_"))

    def draw(self, image: UInt8[np.ndarray, "h w 3"], teacher: ImageTeacher) -> UInt8[np.ndarray, "2*h w 3"]:
        """The image, and the same under its patches' classes with a legend."""
        dense = teacher.dense(image)
        label, _ = classify(dense.flatten(1).T.contiguous(), self.vocabulary)
        names = self.vocabulary.names
        patches = Image.fromarray(colourise(label, names).reshape(*dense.shape[1:], 3))
        above = Image.fromarray(image)
        below = Image.blend(above, patches.resize(above.size, Image.Resampling.NEAREST), _OPACITY)
        legend(below, present(label, names, colours(names)), max(11, image.shape[0] // 25), "")
        return np.concatenate([image, np.asarray(below)])
