"""Augmentations of images, and of the pixels that pairs speak of."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from ov3d_perception.recipes.specs import AugmentSpec


@dataclass(frozen=True)
class Crop:
    """A part of an image, in its pixels; mirrored left to right if ``flip``."""

    left: int
    top: int
    width: int
    height: int
    flip: bool = False

    def image(self, image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
        """The part, resized to ``size`` = (height, width)."""
        part = image[self.top : self.top + self.height, self.left : self.left + self.width]
        shrinks = size[0] < self.height
        resized = cv2.resize(part, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        return np.ascontiguousarray(resized[:, ::-1] if self.flip else resized)

    def pixels(
        self, uv: Float32[np.ndarray, "m 2"], size: tuple[int, int]
    ) -> tuple[Float32[np.ndarray, "m 2"], Bool[np.ndarray, " m"]]:
        """Where pixels of the image are in what :meth:`image` gives, and which of them are in it."""
        scale = np.array([size[1] / self.width, size[0] / self.height])
        moved = (uv + 0.5 - [self.left, self.top]) * scale - 0.5
        inside = ((moved >= -0.5) & (moved < size[::-1])).all(1)
        if self.flip:
            moved[:, 0] = size[1] - 1 - moved[:, 0]
        return moved.astype(np.float32), inside


def draw_crop(size: tuple[int, int], spec: AugmentSpec, rng: np.random.Generator) -> Crop:
    """A random part of an image of ``size`` = (height, width), of its shape."""
    side = np.sqrt(rng.uniform(spec.image_crop, 1.0))
    height, width = max(1, round(size[0] * side)), max(1, round(size[1] * side))
    top, left = int(rng.integers(size[0] - height + 1)), int(rng.integers(size[1] - width + 1))
    return Crop(left, top, width, height, bool(spec.image_flip and rng.random() < 0.5))
