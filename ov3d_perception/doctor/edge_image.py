"""How near each place of an image is to an edge: smooth, with a wide foot and a sharp top."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

WIDTHS = (0.1, 0.2, 0.4, 0.8)  # degrees: an edge draws from afar, and says exactly where it is
_NEIGHBOURHOOD = 2.5  # degrees, over which the strength of edges is compared: a shaded street has edges, too
_WEAK = 1.5  # grey levels a pixel, below which all is noise
_STRONGEST = 4.0  # times the neighbourhood's mean: one bright line is not worth ten others


def edge_images(
    image: UInt8[np.ndarray, "h w 3"], pixels_per_degree: float
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """Nearness to upright edges, then to level ones: mean 0 and standard deviation 1 over the image."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    upright, level = (_nearness(grey, direction, pixels_per_degree) for direction in ((1, 0), (0, 1)))
    return upright, level


def _nearness(
    grey: Float32[np.ndarray, "h w"], direction: tuple[int, int], pixels_per_degree: float
) -> Float32[np.ndarray, "h w"]:
    gradient = np.abs(cv2.Sobel(grey, cv2.CV_32F, *direction)) / 8
    around = _blurred(gradient, _NEIGHBOURHOOD * pixels_per_degree)
    edges = np.minimum(gradient / (around + _WEAK), _STRONGEST)
    total = np.zeros_like(edges)
    for width in WIDTHS:
        total += cv2.GaussianBlur(edges, (0, 0), width * pixels_per_degree)
    mean, spread = (float(one[0, 0]) for one in cv2.meanStdDev(total))
    return (total - np.float32(mean)) * np.float32(1 / spread) if spread > 1e-3 else np.zeros_like(total)


def _blurred(image: Float32[np.ndarray, "h w"], sigma: float) -> Float32[np.ndarray, "h w"]:
    """As ``cv2.GaussianBlur``; a wide one on a reduced image, whose pixels are a quarter of sigma, or smaller."""
    step = max(1, int(sigma / 4))
    height, width = image.shape
    small = cv2.resize(image, (-(-width // step), -(-height // step)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / step)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
