"""What is drawn where."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ov3d_perception.viz.canvas import save
from ov3d_perception.viz.overlay import class_overlay, draw_points
from ov3d_perception.viz.palette import colour

GREY = np.full((90, 160, 3), 100, np.uint8)


def test_a_dot_lies_on_its_pixel_and_the_image_stays_as_it_was():
    drawn = draw_points(GREY, np.array([[40.0, 30.0]], np.float32), np.array([[255, 0, 0]], np.uint8), opacity=1, dim=0)
    assert (GREY == 100).all()
    changed = np.argwhere((drawn != GREY).any(axis=2))
    np.testing.assert_allclose(changed.mean(axis=0), [30, 40], atol=0.5)
    np.testing.assert_array_equal(drawn[30, 40], [255, 0, 0])
    assert np.abs(changed - [30, 40]).max() <= 3


def test_the_nearer_dot_is_on_top_in_any_order():
    uv = np.array([[40, 30], [40, 30]], np.float32)
    rgb = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
    for depth, expected in (([5, 9], [255, 0, 0]), ([9, 5], [0, 0, 255])):
        drawn = draw_points(GREY, uv, rgb, np.array(depth, np.float32), opacity=1)
        np.testing.assert_array_equal(drawn[30, 40], expected)


def test_class_overlay_uses_the_colours_of_the_classes_and_has_a_legend():
    uv, labels = np.array([[40, 60], [80, 60]], np.float32), np.array([0, 1], np.int32)
    drawn = class_overlay(GREY, uv, labels, ["car", "tree"], radius=3)
    for (u, v), name in (((40, 60), "car"), ((80, 60), "tree")):
        assert np.abs(drawn[v, u].astype(int) - colour(name)).max() < 40
    bare = class_overlay(GREY, uv, labels, ["car", "tree"], radius=3, with_legend=False)
    legend = np.argwhere((drawn != bare).any(axis=2))
    assert len(legend) > 100 and legend[:, 1].min() > 80 and legend[:, 0].max() < 80


def test_saved_pictures_come_back(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    path = save(tmp_path / "new" / "folder" / "a.png", image)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), image)
