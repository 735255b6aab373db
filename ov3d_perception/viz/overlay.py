"""Points over the camera image that sees them, coloured by class or by depth."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float32, Int32, UInt8
from PIL import Image

from ov3d_perception.viz.canvas import legend, present
from ov3d_perception.viz.palette import colourise, colours

_SHIFT = 4  # cv2 draws at sixteenths of a pixel


def draw_points(
    image: UInt8[np.ndarray, "h w 3"],
    uv: Float32[np.ndarray, "m 2"],
    rgb: UInt8[np.ndarray, "m 3"],
    depth: Float32[np.ndarray, " m"] | None = None,
    radius: float = 2.0,
    opacity: float = 0.85,
    dim: float = 0.35,
) -> UInt8[np.ndarray, "h w 3"]:
    """A copy of the image with an anti-aliased dot per point, near ones over far ones.

    depth: metres, for the order of drawing. radius: pixels. dim: how far the photograph is darkened and greyed.
    """
    grey = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    base = ((image * 0.6 + grey * 0.4) * (1 - dim)).astype(np.uint8) if dim else image.copy()
    drawn = base.copy()
    order = np.argsort(-depth) if depth is not None else np.arange(len(uv))
    centres = np.round(uv * (1 << _SHIFT)).astype(int)
    for i in order:
        cv2.circle(
            drawn,
            tuple(centres[i].tolist()),
            round(radius * (1 << _SHIFT)),
            tuple(rgb[i].tolist()),
            -1,
            cv2.LINE_AA,
            _SHIFT,
        )
    return cv2.addWeighted(drawn, opacity, base, 1 - opacity, 0)


def class_overlay(
    image: UInt8[np.ndarray, "h w 3"],
    uv: Float32[np.ndarray, "m 2"],
    labels: Int32[np.ndarray, " m"],
    names: Sequence[str],
    *,
    depth: Float32[np.ndarray, " m"] | None = None,
    radius: float | None = None,
    dim: float = 0.35,
    with_legend: bool = True,
    title: str = "",
) -> UInt8[np.ndarray, "h w 3"]:
    """The image with points in the colours of their classes and a legend of the classes that occur.

    labels: class index of each point, anything outside ``names`` is grey. radius: pixels, None for a fit to the image.
    """
    size = max(11, image.shape[0] // 45)
    drawn = draw_points(image, uv, colourise(labels, names), depth, radius or max(1.2, image.shape[1] / 900), dim=dim)
    if not with_legend:
        return drawn
    picture = Image.fromarray(drawn)
    legend(picture, present(labels, names, colours(names)), size, title)
    return np.asarray(picture)
