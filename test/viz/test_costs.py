"""Grids in colour."""

from __future__ import annotations

import numpy as np

from ov3d_perception.viz.bev import Annotations, Canvas
from ov3d_perception.viz.costs import FREE_COLOUR, cost_colour, draw_grid, grid_picture

VALUES = np.array([[-1, 0, 100], [60, 0, -1]], np.int8)


def test_a_pixel_a_cell_with_y_up() -> None:
    picture = grid_picture(VALUES)
    assert picture.shape == (2, 3, 3) and picture.dtype == np.uint8
    assert tuple(picture[1, 2]) == cost_colour(100)
    assert tuple(picture[0, 0]) == cost_colour(60)
    assert tuple(picture[1, 1]) == FREE_COLOUR


def test_dearer_is_redder() -> None:
    green = [cost_colour(cost)[1] for cost in range(1, 101)]
    assert green == sorted(green, reverse=True) and green[0] > green[-1] + 100
    assert len({cost_colour(-1), cost_colour(0), cost_colour(1)}) == 3


def test_cells_are_drawn_where_they_lie() -> None:
    """Cells of 10 m around (0, 0), at 2 pixels a metre: the dear one is on the right, below."""
    canvas = Canvas(60, 40, (0.0, 0.0), 2.0)
    picture = draw_grid(VALUES, (-15.0, -10.0), 10.0, canvas, Annotations(), {})
    dear, free, unknown = picture[30, 50], picture[30, 30], picture[10, 50]
    assert dear[0] > 1.5 * dear[1]
    assert free[1] > free[0] and free[1] > free[2]
    assert unknown.max() < 60
