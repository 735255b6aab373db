"""What is injected comes back: on points and edges made by hand, and on real drives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from real_data import data_dir
from scipy.spatial.transform import Rotation

from ov3d_perception.datasets.semantickitti import SemanticKitti
from ov3d_perception.doctor.alignment import Edges, align, edges_of
from ov3d_perception.doctor.calibration import judge, twist_of
from ov3d_perception.doctor.edge_image import edge_images
from ov3d_perception.doctor.report import Severity
from ov3d_perception.doctor.silhouettes import silhouettes
from ov3d_perception.geometry.poses import interpolate
from ov3d_perception.types import Camera, Scan, View

CAMERA = Camera("front", 500, 250, np.array([[570.0, 0, 249.5], [0, 570.0, 124.5], [0, 0, 1]]))


def moved(
    edges: Edges, turn: tuple[float, ...] = (0, 0, 0), shift: tuple[float, ...] = (0, 0, 0), late: float = 0
) -> Edges:
    """As if the calibration had this error: the points lie where it would put them."""
    R = Rotation.from_rotvec(np.radians(turn)).as_matrix()
    drift = 0.0 if edges.twist is None else edges.twist
    found = []
    for points in edges.points:
        motion = 0 * points if edges.twist is None else np.cross(drift[:3], points) + drift[3:]
        found.append(points @ R.T + shift + late * motion)
    return replace(edges, points=(found[0], found[1]))


def post_scan() -> Scan:
    """A post of 1 m x 2 m, 10 m ahead, before a wall at 30 m; 0.2 degrees by 0.5 degrees."""
    azimuth, elevation = np.meshgrid(np.radians(np.arange(-20, 20, 0.2)), np.radians(np.arange(-12, 12, 0.5)))
    rays = np.stack([np.ones(azimuth.shape), np.tan(azimuth), np.tan(elevation) / np.cos(azimuth)], axis=2)
    post = (np.abs(10 * rays[..., 1]) < 0.5) & (10 * rays[..., 2] < 0.5)
    xyz = np.where(post[..., None], 10.0, 30.0) * rays
    ring = np.repeat(np.arange(len(elevation), dtype=np.int32), elevation.shape[1])
    return Scan(xyz.reshape(-1, 3).astype(np.float32), np.zeros(xyz.size // 3, np.float32), ring=ring)


def test_silhouettes_are_the_ends_of_the_near_thing() -> None:
    found = silhouettes(post_scan())
    assert len(found.sides) > 20 and len(found.tops) > 10
    near = found.sides[found.sides[:, 0] < 11]
    np.testing.assert_allclose(np.abs(near[:, 1]), 0.5, atol=0.05)
    tops = found.tops[found.tops[:, 0] < 11]
    np.testing.assert_allclose(tops[:, 2], 0.5, atol=0.1)


def test_a_scan_of_few_points_has_none() -> None:
    empty = silhouettes(Scan(np.zeros((5, 3), np.float32), np.zeros(5, np.float32)))
    assert (len(empty.sides), len(empty.tops)) == (0, 0)


def test_edge_images_are_high_at_edges_of_their_direction() -> None:
    picture = np.full((100, 200, 3), 50, np.uint8)
    picture[:, 100:] = 200
    upright, level = edge_images(picture, 10.0)
    assert upright[50].argmax() in (99, 100)
    assert upright.mean() == pytest.approx(0, abs=1e-3) and upright.std() == pytest.approx(1, abs=1e-3)
    assert not level.any()


def test_a_picture_without_edges_says_nothing() -> None:
    upright, level = edge_images(np.full((50, 80, 3), 99, np.uint8), 10.0)
    assert not upright.any() and not level.any()


def forest(seed: int = 1) -> list[Edges]:
    """Twelve frames of random upright and level lines with the points that made them, in a camera that moves ahead."""
    rng = np.random.default_rng(seed)
    frames = []
    for number in range(12):
        picture = np.full((CAMERA.height, CAMERA.width, 3), 128, np.uint8)
        columns, rows = rng.integers(20, 480, 6), rng.integers(20, 230, 4)
        sides, tops = [], []
        for u in columns:
            v0, depth = rng.integers(0, 150), rng.uniform(4, 30)
            picture[v0 : v0 + 100, u : u + 40] = rng.integers(0, 255)
            v = np.arange(v0, v0 + 100, 4.0)
            sides.append(np.c_[(u - 0.5 - 249.5) / 570 + 0 * v, (v - 124.5) / 570, 1 + 0 * v] * depth)
        for row in rows:
            u0, depth = rng.integers(0, 350), rng.uniform(4, 30)
            picture[row : row + 30, u0 : u0 + 100] = rng.integers(0, 255)
            u = np.arange(u0, u0 + 100, 4.0)
            tops.append(np.c_[(u - 249.5) / 570, (row - 0.5 - 124.5) / 570 + 0 * u, 1 + 0 * u] * depth)
        twist = np.array([0, rng.uniform(-0.3, 0.3), 0, 0, 0, -8.0])
        points = np.concatenate(sides), np.concatenate(tops)
        frames.append(Edges(CAMERA, points, edge_images(picture, 10.0), number * 2_000_000_000, twist))
    return frames


FOREST = forest()


def test_no_error_is_found_where_none_is() -> None:
    found = align(FOREST)
    assert found is not None
    assert np.abs(found.turn).max() < 0.1 and np.abs(found.shift).max() < 0.015 and abs(found.delay) < 0.005
    assert judge("front", found).severity is Severity.GOOD


@pytest.mark.parametrize(
    ("error", "name", "value"),
    [
        ({"turn": (0, 1, 0)}, "yaw", -1.0),
        ({"turn": (3, 0, 0)}, "pitch", -3.0),
        ({"shift": (0.1, 0, 0)}, "right", -0.1),
        ({"late": 0.05}, "stamps", 0.05),
    ],
)
def test_an_injected_error_is_measured_and_named(error: dict[str, object], name: str, value: float) -> None:
    found = align([moved(one, **error) for one in FOREST])  # type: ignore[arg-type]
    assert found is not None
    offsets = np.r_[found.turn / 1.0, found.shift, found.delay]
    index = {"pitch": 0, "yaw": 1, "right": 3, "stamps": 6}[name]
    assert offsets[index] == pytest.approx(value, abs=0.1 if index < 3 else 0.015)
    verdict = judge("front", found)
    assert verdict.severity is Severity.ERROR and name in verdict.what, str(verdict)


def test_points_without_edges_tell_nothing() -> None:
    rng = np.random.default_rng(0)
    elsewhere = [replace(one, images=FOREST[int(rng.integers(12))].images) for one in FOREST]
    assert judge("front", align(elsewhere)).severity is Severity.UNKNOWN


def test_few_points_tell_nothing() -> None:
    few = replace(FOREST[0], points=(FOREST[0].points[0][:20], FOREST[0].points[1][:20]))
    assert align([few]) is None
    assert judge("front", None).severity is Severity.UNKNOWN


def test_twist_is_how_the_world_moves_past_the_camera() -> None:
    T_lidar_camera = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])

    def poses_at(stamps: np.ndarray) -> np.ndarray:
        T = np.tile(np.eye(4), (len(stamps), 1, 1))
        T[:, 0, 3] = 10 * stamps * 1e-9
        return T

    view = View(CAMERA, poses_at(np.array([10**9]))[0] @ T_lidar_camera, np.zeros((1, 1, 3), np.uint8), 10**9)
    twist = twist_of(view, poses_at)
    assert twist is not None
    np.testing.assert_allclose(twist, [0, 0, 0, 0, 0, -10], atol=1e-9)
    assert twist_of(view, lambda stamps: np.tile(np.eye(4), (len(stamps), 1, 1))) is None  # at rest


@pytest.fixture(scope="module")
def real() -> list[Edges]:
    root = data_dir()
    if root is None or not (root / "semantickitti").is_dir():
        pytest.skip("needs SemanticKITTI in $OV3D_TEST_DATA/semantickitti")
    frames = list(SemanticKitti(root / "semantickitti", sequences=["00"], labels=False))
    keys = [frame.sweeps[0] for frame in frames]

    def pose_at(stamp: int) -> np.ndarray:
        after = int(np.clip(np.searchsorted([key.scan.stamp for key in keys], stamp), 1, len(keys) - 1))
        before, later = keys[after - 1], keys[after]
        share = (stamp - before.scan.stamp) / (later.scan.stamp - before.scan.stamp)
        return interpolate(before.T_world_lidar, later.T_world_lidar, share)

    def poses_at(stamps: np.ndarray) -> np.ndarray:
        return np.array([pose_at(stamp) for stamp in stamps.tolist()])

    return [
        edges_of(silhouettes(key.scan), key.T_world_lidar, frame.views[0], twist_of(frame.views[0], poses_at))
        for key, frame in zip(keys, frames, strict=True)
    ]


def test_real_calibration_is_called_right(real: list[Edges]) -> None:
    assert judge("image_2", align(real)).severity is Severity.GOOD


@pytest.mark.parametrize(
    ("error", "name"),
    [({"turn": (-1, 0, 0)}, "pitch"), ({"late": 0.05}, "stamps are")],
)
def test_a_real_error_is_named(error: dict[str, object], name: str, real: list[Edges]) -> None:
    verdict = judge("image_2", align([moved(one, **error) for one in real]))  # type: ignore[arg-type]
    assert verdict.severity is Severity.ERROR and name in verdict.what, str(verdict)
