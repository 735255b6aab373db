"""The bird's-eye picture: places, order by height, annotations, empty clouds."""

from __future__ import annotations

import numpy as np
import pytest

from ov3d_perception.geometry.boxes import Box
from ov3d_perception.types import UNLABELLED
from ov3d_perception.viz.bev import BACKGROUND, Annotations, Canvas, bird_eye, fit
from ov3d_perception.viz.palette import colour

NAMES = ["car", "tree"]
CANVAS = Canvas(400, 300, (10.0, 0.0), 10.0)


def picture(xyz, labels, **options) -> np.ndarray:
    return bird_eye(
        np.array(xyz, np.float32).reshape(-1, 3),
        np.array(labels, np.int32),
        NAMES,
        canvas=CANVAS,
        **{"point_size": 0.8, **options},
    )


def hue_distance(pixel: np.ndarray, name: str) -> float:
    """Angle in degrees between two colours; light does not matter."""
    a, b = pixel.astype(float), np.array(colour(name), float)
    return float(np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))))


def test_x_is_right_and_y_is_up():
    drawn = picture([[5, 8, 0], [15, -8, 0]], [0, 1])
    assert drawn.shape == (300, 400, 3)
    assert hue_distance(drawn[70, 150], "car") < 3 and hue_distance(drawn[230, 250], "tree") < 3
    assert np.abs(drawn[155, 205].astype(int) - BACKGROUND).max() < 5


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_higher_point_is_on_top(order):
    drawn = picture(np.array([[10, 0, 0], [10, 0, 3]])[list(order)], np.array([0, 1])[list(order)])
    assert hue_distance(drawn[150, 200], "tree") < 3


def test_points_outside_the_canvas_and_unlabelled_ones_do_no_harm():
    drawn = picture([[1000, 0, 0], [-1000, 5, 2], [10, 0, 0]], [0, 1, UNLABELLED])
    assert np.ptp(drawn[150, 200].astype(int)) < 30 and drawn[150, 200].mean() > 50


def test_an_empty_cloud_gives_a_picture_too():
    empty = bird_eye(np.zeros((0, 3), np.float32), np.zeros(0, np.int32), NAMES, notes=Annotations(title="nothing"))
    assert empty.shape == (900, 1600, 3) and empty.max() > 200


def test_boxes_ego_and_path_are_drawn_in_their_places():
    box = Box(np.array([18.0, 5, 0]), np.array([6.0, 2, 2]), 0.0, "car", "car 0.93")
    notes = Annotations(boxes=[box], ego=np.eye(4), path=np.array([[0.0, -10], [20, -10]]))
    bare, drawn = picture([[10, 0, 0]], [0]), picture([[10, 0, 0]], [0], notes=notes)
    changed = (bare != drawn).any(axis=2)
    assert changed[100, 250:305].all(), "the box's centre line"
    assert drawn[150, 100].min() > 240, "the ego marker's white"
    assert changed[250, 110:290].all(), "the path"
    assert not changed[200, 110:390].any()


def test_tags_do_not_cover_each_other():
    boxes = [Box(np.array([10.0 + d, 0, 0]), np.array([0.5, 0.5, 1]), 0.0, "car") for d in (0, 0.1, 0.2)]
    one, three = (picture([], [], notes=Annotations(boxes=b)) for b in (boxes[:1], boxes))
    tag = np.s_[115:135, 170:230]
    assert (one[tag] == three[tag]).mean() > 0.95


def test_a_tag_that_has_no_room_above_its_box_is_below():
    """A second box whose tag above would cover the first one's; what is drawn of the first stays."""
    first = Box(np.array([10.0, 0, 0]), np.array([0.5, 0.5, 1]), 0.0, "car")
    second = Box(np.array([10.6, 0, 0]), np.array([0.5, 0.5, 1]), 0.0, "tree")
    one, two = (picture([], [], notes=Annotations(boxes=b)) for b in ([first], [first, second]))
    added = (one != two).any(axis=2)
    assert not added[:135].any(), "the first tag stands, and nothing is beside it"
    assert added[160:190].sum() > 300, "the second is below"


def test_fit_shows_the_cloud_whole():
    rng = np.random.default_rng(0)
    xyz = rng.uniform([-30, -10, 0], [50, 20, 3], (5000, 3)).astype(np.float32)
    pixels = fit(xyz, 800, 400).pixels(xyz)
    inside = ((pixels >= 0) & (pixels < [800, 400])).all(axis=1)
    assert inside.mean() > 0.98
    assert np.ptp(pixels[:, 0]) > 600


def test_other_colours_come_without_legend():
    red = picture([[10, 0, 0]], [0], rgb=np.array([[255, 0, 0]], np.uint8))
    assert red[150, 200, 0] > 120 and red[150, 200, 1:].max() < 20
    assert np.abs(red[:60, 300:].astype(int) - BACKGROUND).max() < 25
