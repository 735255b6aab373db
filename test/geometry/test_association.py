"""Pairs against a plain loop, hand-placed points, several sweeps and stamps, and occlusion by a wall."""

from __future__ import annotations

from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ov3d_perception.geometry.association import associate
from ov3d_perception.geometry.cameras import project
from ov3d_perception.geometry.occlusion import OcclusionTest
from ov3d_perception.geometry.poses import from_quaternion, invert, transform
from ov3d_perception.types import Camera, Frame, PixelPointPairs, Scan, Sweep, View

K = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
LENSES = [
    ("pinhole", []),
    ("pinhole", [-0.35, 0.12, 1e-3, -8e-4, -0.02]),
    ("pinhole", [0.5, 0.1, 1e-3, -1e-3, 0.01, 0.8, 0.2, 0.02]),
    ("pinhole", [0.2, 0.1, 0, 0]),
    ("fisheye", [-0.02, 0.006, -0.004, 0.0006]),
    ("fisheye", [0.0, -0.05, 0, 0]),
]
OPTICAL = from_quaternion([0, 0, 0], [-0.5, 0.5, -0.5, 0.5])  # looks along x of a z-up frame, right is -y


def view(T_world_body=None, lens=("pinhole", []), K=K) -> View:
    T = np.eye(4) if T_world_body is None else T_world_body
    camera = Camera("c", 640, 480, K, lens[0], np.array(lens[1], np.float64))
    return View(camera, T @ OPTICAL, np.zeros((1, 1, 3), np.uint8))


def sweep(xyz, T_world_lidar=None) -> Sweep:
    xyz = np.asarray(xyz, np.float32).reshape(-1, 3)
    return Sweep(Scan(xyz, np.zeros(len(xyz), np.float32)), np.eye(4) if T_world_lidar is None else T_world_lidar)


def turned(yaw_degrees: float, *translation: float) -> np.ndarray:
    half = np.radians(yaw_degrees) / 2
    return from_quaternion(translation or (0, 0, 0), [0, 0, np.sin(half), np.cos(half)])


def plain_loop(frame: Frame, min_depth: float, max_depth: float, border: float) -> dict[tuple[int, int], np.ndarray]:
    """The definition, in float64 and without culling: (camera, point) -> (u, v, depth)."""
    found = {}
    for c, seen_by in enumerate(frame.views):
        offset = 0
        for part in frame.sweeps:
            world = transform(part.T_world_lidar, part.scan.xyz.astype(np.float64))
            uv, depth, seen = project(seen_by.camera, transform(invert(seen_by.T_world_camera), world))
            size = np.array([seen_by.camera.width, seen_by.camera.height])
            for i in np.flatnonzero(seen & (depth > min_depth) & (depth < max_depth)):
                if (uv[i] >= border).all() and (uv[i] < size - border).all():
                    found[c, offset + int(i)] = np.array([*uv[i], depth[i]])
            offset += len(part.scan)
    return found


def as_dict(pairs: PixelPointPairs) -> dict[tuple[int, int], np.ndarray]:
    return {
        (int(c), int(p)): np.array([*uv, d])
        for c, p, uv, d in zip(pairs.camera, pairs.point, pairs.uv, pairs.depth, strict=True)
    }


def test_hand_placed_points():
    """Along x of the body is the centre; left of it (y) is left in the image, up (z) is up."""
    cloud = [[10, 0, 0], [10, 2, 0], [10, 0, 4], [-10, 0, 0], [0.5, 0, 0], [10, 7, 0]]
    frame = Frame("hand", (sweep(cloud),), (view(),))
    pairs = associate(frame)
    np.testing.assert_array_equal(pairs.point, [0, 1, 2])
    np.testing.assert_allclose(pairs.uv, [[320, 240], [220, 240], [320, 40]], atol=1e-3)
    np.testing.assert_allclose(pairs.depth, [10, 10, 10], rtol=1e-6)
    assert pairs.point.dtype == np.int64 and pairs.camera.dtype == pairs.sweep.dtype == np.int32


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize(("min_depth", "max_depth", "border"), [(1.0, np.inf, 0), (3.0, 40.0, 12), (0.0, 9.0, -5)])
def test_culling_loses_nothing(lens, min_depth, max_depth, border):
    rng = np.random.default_rng(5)
    clouds = [rng.normal(0, 15, (3000, 3)) * [1, 1, 0.3] for _ in range(2)]
    frame = Frame(
        "random",
        (sweep(clouds[0]), sweep(clouds[1], turned(7, 1.0, 0.2, 0.1))),
        tuple(view(turned(yaw, 0.5, -0.3, 1), lens) for yaw in (0, 60, 200)),
    )
    expected = plain_loop(frame, min_depth, max_depth, border)
    pairs = associate(frame, min_depth=min_depth, max_depth=max_depth, border=border)
    found = as_dict(pairs)
    assert len(expected) > 100
    on_the_edge = set(expected) ^ set(found)  # float32 against float64
    assert len(on_the_edge) <= 2
    both = sorted(set(expected) & set(found))
    np.testing.assert_allclose([found[k] for k in both], [expected[k] for k in both], rtol=1e-4, atol=2e-2)
    assert sorted(found) == list(found), "pairs must be sorted by (camera, point)"
    np.testing.assert_array_equal(pairs.sweep, pairs.point >= 3000)
    assert ((pairs.uv >= border) & (pairs.uv < np.array([640, 480]) - border)).all()


@settings(max_examples=40)
@given(st.floats(-180, 180), st.floats(-5, 5), st.floats(-5, 5), st.sampled_from(LENSES))
def test_only_relative_poses_matter(yaw, x, y, lens):
    """Moving the world by 1e6 m changes nothing: the maths is relative to the camera."""
    cloud = np.random.default_rng(6).normal(0, 10, (500, 3))
    here = Frame("a", (sweep(cloud),), (view(turned(yaw, x, y, 0.5), lens),))
    shift = turned(30, 1e6, -2e6, 100)
    there = Frame("b", (sweep(cloud, shift),), (view(shift @ turned(yaw, x, y, 0.5), lens),))
    a, b = as_dict(associate(here)), as_dict(associate(there))
    assert len(set(a) ^ set(b)) <= 1
    common = sorted(set(a) & set(b))
    np.testing.assert_allclose([a[k] for k in common], [b[k] for k in common], atol=5e-2)


def test_each_view_has_its_own_stamp():
    """The body drives 1 m between the sweep and the second exposure: the point at 10 m is then at 9 m."""
    frame = Frame("moving", (sweep([[10, 1, 0]]),), (view(), view(turned(0, 1, 0, 0))))
    pairs = associate(frame)
    np.testing.assert_allclose(pairs.depth, [10, 9], rtol=1e-6)
    np.testing.assert_allclose(pairs.uv[:, 0], [320 - 50, 320 - 500 / 9], rtol=1e-5)


@pytest.mark.parametrize(
    ("sweeps", "views"),
    [((), ()), ((), (view(),)), ((sweep(np.zeros((0, 3))),), (view(),)), ((sweep([[1, 2, 3]]),), ())],
)
def test_nothing_to_see_gives_empty_columns(sweeps, views):
    for occlusion in (None, OcclusionTest()):
        pairs = associate(Frame("empty", sweeps, views), occlusion=occlusion)
        assert len(pairs) == 0 and pairs.uv.shape == (0, 2) and pairs.point.dtype == np.int64


def wall(x: float, half_width: float, spacing: float) -> np.ndarray:
    """A grid of points across the view at distance x."""
    steps = np.arange(-half_width, half_width + 1e-9, spacing)
    y, z = np.meshgrid(steps, steps)
    return np.stack([np.full(y.size, x), y.ravel(), z.ravel()], axis=1)


def test_a_sparse_wall_hides_what_is_behind_it():
    """A wall of +-1 m at 5 m, its points 12 pixels apart, before one of +-4 m at 20 m: the middle is hidden."""
    near, far = wall(5, 1.0, 0.12), wall(20, 4.0, 0.1)
    frame = Frame("walls", (sweep(np.vstack([near, far])),), (view(),))
    everything = associate(frame)
    assert len(everything) == len(near) + len(far)
    test = OcclusionTest(resolution_px=4, radius_px=(8, 8))
    kept = associate(frame, occlusion=test)
    assert np.isin(np.arange(len(near)), kept.point).all(), "the near wall stays whole"
    behind = np.flatnonzero((np.abs(far[:, 1:]) <= 3.9).all(axis=1)) + len(near)  # the wall covers +-4 m at 20 m
    assert not np.isin(behind, kept.point).any()


def test_beside_the_wall_all_is_visible_and_the_order_of_sweeps_does_not_matter():
    near, far = wall(5, 0.5, 0.05), wall(20, 6.0, 0.2)
    test = OcclusionTest(radius_px=(6, 6))
    one = associate(Frame("a", (sweep(near), sweep(far)), (view(),)), occlusion=test)
    two = associate(Frame("b", (sweep(far), sweep(near)), (view(),)), occlusion=test)
    beside = np.flatnonzero((np.abs(far[:, 1:]) > 2.0 + 1.0).any(axis=1) & (np.abs(far[:, 2]) < 9))
    assert np.isin(beside + len(near), one.point).all()
    assert set(one.point[one.sweep == 1] - len(near)) == set(two.point[two.sweep == 0])
    assert len(one) < len(near) + len(far)


def test_the_ground_does_not_hide_itself():
    """Ground 1.5 m below the camera from 3 to 80 m: seen ever more obliquely, and visible all the same."""
    x, y = np.meshgrid(np.geomspace(3, 80, 150), np.linspace(-20, 20, 161))
    ground = np.stack([x.ravel(), y.ravel(), np.full(x.size, -1.5)], axis=1)
    frame = Frame("ground", (sweep(ground),), (view(),))
    everything, kept = associate(frame), associate(frame, occlusion=OcclusionTest(radius_px=(10, 10)))
    assert len(everything) > 5000
    assert len(kept) == len(everything)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_can_associate_after_its_parent_did():
    """As the workers of a data loader do: the parent's threads are not in the child."""
    frame = Frame("f", (sweep([[10, 0, 0]]),), (view(), view()))
    assert len(associate(frame)) == 2
    with get_context("fork").Pool(1) as pool:
        assert pool.apply_async(pairs_in, (frame,)).get(timeout=60) == 2


def pairs_in(frame: Frame) -> int:
    return len(associate(frame))


def test_occlusion_works_per_camera():
    """The wall hides the point from the first camera, not from the second, 3 m to the left."""
    cloud = np.vstack([wall(5, 0.3, 0.03), [[12.0, 0, 0]]])
    frame = Frame("two", (sweep(cloud),), (view(), view(turned(0, 0, 3, 0))))
    pairs = associate(frame, occlusion=OcclusionTest())
    np.testing.assert_array_equal(pairs.camera[pairs.point == len(cloud) - 1], [1])
