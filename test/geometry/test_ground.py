"""Heights above the ground of worlds of a few points, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ov3d_perception.geometry.ground import height_above_ground


def plane(slope: float = 0.0, half: float = 12.0, gap: float = 0.2) -> np.ndarray:
    """Points of ground that rises along x."""
    x, y = np.meshgrid(np.arange(-half, half, gap), np.arange(-half, half, gap))
    return np.stack([x.ravel(), y.ravel(), slope * x.ravel() - 1.7], 1).astype(np.float32)


def box(x: float, y: float, low: float, high: float, width: float = 1.0) -> np.ndarray:
    """The walls of a box that stands on the plane's z = -1.7 + low."""
    side = np.arange(0.0, width, 0.1)
    u, v, z = np.meshgrid(side, side, np.arange(low, high, 0.1))
    return np.stack([x + u.ravel(), y + v.ravel(), z.ravel() - 1.7], 1).astype(np.float32)


def heights(*parts: np.ndarray, ground: tuple[int, ...] | None = None, reach: float = 30.0) -> list[np.ndarray]:
    """Height of the points of each part; ``ground``: the parts that may be ground."""
    may = np.concatenate([np.full(len(p), ground is None or i in ground) for i, p in enumerate(parts)])
    height = height_above_ground(np.concatenate(parts), may, reach)
    return np.split(height, np.cumsum([len(p) for p in parts])[:-1])


@pytest.mark.parametrize("slope", [0.0, 0.1, -0.1])
def test_a_plane_is_ground_and_a_box_stands_on_it(slope: float) -> None:
    """A slope's own rise within a cell of half a metre is all that its points may seem to stand above it."""
    ground = plane(slope)
    road, thing = heights(ground, box(3.0, 2.0, slope * 3.0, slope * 3.0 + 1.0, width=0.4))
    inner = road[np.abs(ground[:, 0]) < 8.0]  # not within a window of where the ground ends
    assert inner.min() >= 0.0 and inner.max() <= abs(slope) * 0.5 + 1e-3
    np.testing.assert_allclose(thing.max(), 0.9, atol=abs(slope) * 1.5 + 1e-3)


def test_a_wide_thing_that_hides_its_ground_stands_on_the_ground_around_it() -> None:
    """A lorry of 3 m, whose lowest point is 0.6 m above the road."""
    lorry = box(2.0, -1.5, 0.6, 3.0, width=3.0)
    road = plane()
    hidden = (road[:, 0] > 1.9) & (road[:, 0] < 5.1) & (road[:, 1] > -1.6) & (road[:, 1] < 1.6)
    _, thing = heights(road[~hidden], lorry)
    np.testing.assert_allclose([thing.min(), thing.max()], [0.6, 2.9], atol=1e-3)


def test_a_wall_wider_than_all_windows_needs_its_label() -> None:
    """20 m of wall with hidden foot: a terrace by its shape; where it may not be ground, it stands on the road."""
    road = plane()
    road = road[road[:, 0] < 3.0]
    wall = box(3.5, -10.0, 0.5, 2.0, width=20.0)[:, [0, 1, 2]]
    _, alone = heights(road, wall)
    assert alone.min() < 0.1
    _, labelled = heights(road, wall, ground=(0,))
    np.testing.assert_allclose(labelled.min(), 0.5, atol=1e-3)


def test_the_camber_of_a_road_is_no_obstacle() -> None:
    road = plane()
    road[:, 2] -= 0.03 * np.abs(road[:, 1])  # falls by 3 % to both sides
    (height,) = heights(road)
    assert height.max() < 0.03


def test_one_point_below_the_ground_spoils_no_more_than_its_cell() -> None:
    road = plane()
    reflection = np.array([[4.1, 4.1, -3.7]], np.float32)
    height, _ = heights(road, reflection)
    wrong = road[height > 0.1]
    assert len(wrong) and np.abs(wrong[:, :2] - 4.25).max() <= 0.26


def test_beyond_reach_and_without_ground_there_is_no_height() -> None:
    near, far = heights(plane(half=3.0), np.array([[40.0, 0.0, 0.0]], np.float32))
    assert np.isfinite(near).all() and np.isnan(far).all()
    (none,) = heights(plane(half=1.0), ground=())
    assert np.isnan(none).all()
    assert len(height_above_ground(np.zeros((0, 3), np.float32), np.zeros(0, bool), 10.0)) == 0
