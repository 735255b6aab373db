"""A small bag that all tests here read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ov3d_perception.bags import messages
from ov3d_perception.bags.writer import BagWriter

S = 1_000_000_000
SCANS = 20


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """2 s at 10 Hz: /points (1000 points, x = index of the scan), /tf (1 m/s along x), /tf_static, /odom."""
    path = tmp_path / "drive"
    with BagWriter(path) as bag:
        static = [("base_link", "lidar", 0, np.diag([1.0, 1.0, 1.0, 1.0]))]
        bag.write("/tf_static", messages.tf_message(static), S)
        for index in range(SCANS):
            stamp = S + index * S // 10
            T = np.eye(4)
            T[0, 3] = index / 10
            bag.write("/tf", messages.tf_message([("odom", "base_link", stamp, T)]), stamp)
            bag.write("/odom", messages.odometry(T, stamp), stamp)
            columns = {name: np.full(1000, index + 1, np.float32) for name in ("x", "y", "z", "intensity")}
            bag.write("/points", messages.point_cloud(columns, stamp, "lidar"), stamp)
    return path
