"""Crops and mirrored images, and that pixels keep what they show."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ov3d_perception.recipes.specs import AugmentSpec
from ov3d_perception.training.data.crops import Crop, draw_crop

SIZE = (48, 64)
ROWS, COLUMNS = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.uint8)
PLACES = np.stack([COLUMNS, ROWS, COLUMNS], axis=2) * 3
"""An image whose colours say where each pixel is: 3 u, 3 v."""


@given(st.integers(0, 500), st.sampled_from([(48, 64), (24, 40), (96, 128)]))
def test_a_pixel_shows_after_the_crop_what_it_showed_before(seed, target):
    rng = np.random.default_rng(seed)
    crop = draw_crop(SIZE, AugmentSpec(image_flip=True, image_crop=0.3), rng)
    image = crop.image(PLACES, target)
    uv = rng.uniform([2, 2], [SIZE[1] - 3, SIZE[0] - 3], (40, 2)).astype(np.float32)
    moved, inside = crop.pixels(uv, target)
    deep = inside & ((moved >= 2) & (moved < np.array(target[::-1]) - 2)).all(1)
    column, row = np.round(moved[deep]).astype(int).T
    step = 2 + np.ceil(3 * max(crop.height / target[0], crop.width / target[1]))
    assert np.abs(image[row, column, :2] - 3 * uv[deep]).max(initial=0) <= step


def test_a_crop_by_hand():
    crop = Crop(left=10, top=4, width=20, height=10)
    moved, inside = crop.pixels(np.array([[10, 4], [29, 13], [9, 4], [30, 13]], np.float32), (20, 40))
    np.testing.assert_allclose(moved, [[0.5, 0.5], [38.5, 18.5], [-1.5, 0.5], [40.5, 18.5]])
    assert inside.tolist() == [True, True, False, False]
    mirrored = Crop(10, 4, 20, 10, flip=True).pixels(np.array([[10, 4]], np.float32), (20, 40))[0]
    np.testing.assert_allclose(mirrored, [[38.5, 0.5]])


def test_without_augmentation_nothing_moves():
    crop = draw_crop(SIZE, AugmentSpec(), np.random.default_rng(0))
    uv = np.array([[0, 0], [63.9, 47.9]], np.float32)
    moved, inside = crop.pixels(uv, SIZE)
    np.testing.assert_allclose(moved, uv)
    assert inside.all()
    np.testing.assert_array_equal(crop.image(PLACES, SIZE), PLACES)


def test_crops_keep_their_share_and_their_shape():
    crops = [draw_crop(SIZE, AugmentSpec(image_crop=0.25), np.random.default_rng(seed)) for seed in range(200)]
    shares = [c.width * c.height / (SIZE[0] * SIZE[1]) for c in crops]
    assert 0.23 < min(shares) < 0.3
    assert max(shares) > 0.95
    assert all(c.width / c.height == pytest.approx(64 / 48, rel=0.05) for c in crops)
    assert all(0 <= c.left <= 64 - c.width and 0 <= c.top <= 48 - c.height and not c.flip for c in crops)
