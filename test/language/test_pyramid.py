"""Algorithm 1 of 3D-OVS against its pseudo-code, line by line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ov3d_perception.language.pyramid import PyramidSettings, patches, pixel_features


def mean_colour(images: Sequence[np.ndarray]) -> Tensor:
    means = torch.tensor(np.array([image.mean((0, 1)) for image in images]), dtype=torch.float32)
    return torch.nn.functional.normalize(means + torch.tensor([1.0, 2.0, 3.0]), dim=1)


def slow(image: np.ndarray, settings: PyramidSettings, rng: np.random.Generator) -> np.ndarray:
    """The pseudo-code for every pixel, with its sums and counts; then the cells' centres."""
    height, width = image.shape[:2]
    scales = []
    for divisor in settings.divisors:
        side = min(height, width) // divisor
        total, count = np.zeros((height, width, 3)), np.zeros((height, width, 1))
        for left, upper, right, lower in patches((height, width), side, side // settings.overlap, rng):
            total[upper:lower, left:right] += mean_colour([image[upper:lower, left:right]])[0].numpy()
            count[upper:lower, left:right] += 1
        mean = total / count
        scales.append(mean / np.linalg.norm(mean, axis=2, keepdims=True))
    half = settings.cell // 2
    return np.stack(scales)[:, half :: settings.cell, half :: settings.cell]


def test_features_are_those_of_the_pseudo_code() -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 53, 3), np.uint8)
    settings = PyramidSettings((2, 4), overlap=4, cell=4, batch=7)
    found = pixel_features(image, mean_colour, settings, np.random.default_rng(3))
    np.testing.assert_allclose(found.numpy(), slow(image, settings, np.random.default_rng(3)), atol=1e-5)


def test_patches_cover_the_image_and_stay_in_it() -> None:
    boxes = np.array(patches((41, 53), 10, 2, np.random.default_rng(0)))
    assert boxes.min() == 0 and boxes[:, 2].max() == 53 and boxes[:, 3].max() == 41
    covered = np.zeros((41, 53), bool)
    for left, upper, right, lower in boxes:
        assert 1 <= right - left <= 14 and 1 <= lower - upper <= 14  # a side, and a stride out at each border
        covered[upper:lower, left:right] = True
    assert covered.all()
