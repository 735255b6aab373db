"""Upright boxes: length along x, width along y, height along z, turned by a yaw about z."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64


@dataclass(frozen=True)
class Box:
    """centre (3,) and size (length, width, height) in metres, yaw in radians about z.

    label: the class or word; text: what a picture writes at the box, the label where empty.
    """

    centre: Float64[np.ndarray, " 3"]
    size: Float64[np.ndarray, " 3"]
    yaw: float
    label: str = ""
    text: str = ""

    @property
    def corners(self) -> Float64[np.ndarray, "8 3"]:
        """Bottom four counter-clockwise from above, beginning at front left, then the top four in the same order."""
        signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / 2
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        ring = (signs * self.size[:2]) @ np.array([[c, s], [-s, c]])
        low, high = np.full((4, 1), -self.size[2] / 2), np.full((4, 1), self.size[2] / 2)
        return np.vstack([np.hstack([ring, low]), np.hstack([ring, high])]) + self.centre


def points_in_box(xyz: Float[np.ndarray, "n 3"], box: Box) -> Bool[np.ndarray, " n"]:
    """True for each point inside the box or on its faces."""
    c, s = np.cos(box.yaw), np.sin(box.yaw)
    x, y, z = (xyz - box.centre.astype(xyz.dtype)).T
    along, across = c * x + s * y, c * y - s * x
    length, width, height = box.size / 2
    return (np.abs(along) <= length) & (np.abs(across) <= width) & (np.abs(z) <= height)
