"""CLIP's features of pixels from its features of patches (3D-OVS, section 3.1 and Algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

DIVISORS = (5, 7, 10)
"""The patches' sides: the image's shorter side over these."""

Encode = Callable[[Sequence[np.ndarray]], Float[Tensor, "b d"]]


@dataclass(frozen=True)
class PyramidSettings:
    """divisors: see :data:`DIVISORS`, one a scale. overlap: patches a patch's side, along each axis (the paper: 4);
    their number, and the time, grow with its square. cell: pixels a side of the features' cells. batch: patches a pass.
    """

    divisors: tuple[int, ...] = DIVISORS
    overlap: int = 4
    cell: int = 8
    batch: int = 64


def patches(
    shape: tuple[int, int], side: int, stride: int, rng: np.random.Generator
) -> list[tuple[int, int, int, int]]:
    """(left, upper, right, lower) of Algorithm 1's patches of an image of ``shape`` (height, width).

    Each border moves out at random by up to a stride. One more patch a row and a column reaches the border where the
    strides do not (so does the release; Algorithm 1 leaves the rest of the image without features).
    """
    height, width = shape
    found = []
    for y in _starts(height, side, stride):
        for x in _starts(width, side, stride):
            out = rng.integers(0, stride + 1, 4)
            found.append((
                max(x - int(out[0]), 0), max(y - int(out[1]), 0),
                min(x + side + int(out[2]), width), min(y + side + int(out[3]), height),
            ))  # fmt: skip
    return found


def pixel_features(
    image: UInt8[np.ndarray, "h w 3"], encode: Encode, settings: PyramidSettings, rng: np.random.Generator
) -> Float[Tensor, "s gh gw d"]:
    """F_I of Algorithm 1, unit norm, at the centres of cells.

    A pixel's feature at a scale is the mean of the features of all patches that it is in. encode: images to unit
    features, as :meth:`Encoder.encode_image`.
    """
    height, width = image.shape[:2]
    rows, columns = (np.arange(settings.cell // 2, n, settings.cell) for n in (height, width))
    scales = []
    for divisor in settings.divisors:
        side = max(2, min(height, width) // divisor)
        boxes = patches((height, width), side, max(1, side // settings.overlap), rng)
        total: Tensor | None = None
        count = torch.zeros(len(rows), len(columns))
        for start in range(0, len(boxes), settings.batch):
            chunk = boxes[start : start + settings.batch]
            features = encode([image[y0:y1, x0:x1] for x0, y0, x1, y1 in chunk]).float().cpu()
            if total is None:
                total = torch.zeros(len(rows), len(columns), features.shape[1])
            for (x0, y0, x1, y1), feature in zip(chunk, features, strict=True):
                i, j = np.searchsorted(rows, (y0, y1)), np.searchsorted(columns, (x0, x1))
                total[i[0] : i[1], j[0] : j[1]] += feature
                count[i[0] : i[1], j[0] : j[1]] += 1
        assert total is not None
        scales.append(total / count[..., None])
    return functional.normalize(torch.stack(scales), dim=-1)


def _starts(length: int, side: int, stride: int) -> list[int]:
    """Where patches begin: every stride, and one more that the border cuts where those do not end at it."""
    last = length - side
    return [*range(0, last + 1, stride), *([last // stride * stride + stride] if last % stride else [])]
