"""Ground truth comes back from a bag, motion compensated, in the map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ov3d_perception.bags import messages
from ov3d_perception.bags.writer import BagWriter
from ov3d_perception.demo.truth import read_truth
from ov3d_perception.errors import BagError

S = 1_000_000_000
STAMP = 10 * S


def pose(x: float) -> np.ndarray:
    T = np.eye(4)
    T[0, 3] = x
    return T


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """A LiDAR 2 m up on a vehicle at 10 m/s; its three points are measured 0, 50 and 100 ms after the stamp."""
    path = tmp_path / "bag"
    up = np.eye(4)
    up[2, 3] = 2.0
    columns = {
        "x": np.array([5, 5, 5], np.float32),
        "y": np.array([0, 1, 2], np.float32),
        "z": np.zeros(3, np.float32),
        "time": np.array([0, 0.05, 0.1], np.float32),
    }
    with BagWriter(path) as writer:
        static = [("map", "odom", STAMP, np.eye(4)), ("base_link", "lidar", STAMP, up)]
        writer.write("/tf_static", messages.tf_message(static), STAMP)
        for tick in range(3):
            at = STAMP + tick * S // 10
            writer.write("/tf", messages.tf_message([("odom", "base_link", at, pose(float(tick)))]), at)
        writer.write("/points", messages.point_cloud(columns, STAMP, "lidar"), STAMP)
        truth = {"label": np.array([3, 4, 5], np.uint16)}
        writer.write("/ground_truth/points", messages.point_cloud(truth, STAMP, "lidar"), STAMP + 1)
    return path


def test_points_are_where_they_were_measured(bag: Path) -> None:
    scan = read_truth(bag)[STAMP]
    np.testing.assert_array_equal(scan.labels, [3, 4, 5])
    np.testing.assert_allclose(scan.xyz_map, [[5, 0, 2], [5.5, 1, 2], [6, 2, 2]], atol=1e-4)
    np.testing.assert_allclose(scan.T_map_lidar[:3, 3], [0, 0, 2])


def test_a_bag_without_ground_truth_says_so(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        writer.write("/points", messages.point_cloud({"x": np.zeros(1, np.float32)}, STAMP, "lidar"), STAMP)
    with pytest.raises(BagError, match="ground_truth"):
        read_truth(tmp_path / "bag")
