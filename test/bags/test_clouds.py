"""A bag without the cloud: the words name topic, type and remedy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ov3d_perception.bags import messages
from ov3d_perception.bags.writer import BagWriter
from ov3d_perception.datasets.bag import Bag
from ov3d_perception.errors import DatasetError


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A bag with a LaserScan on /scan and an odometry on /livox/lidar."""
    path = tmp_path / "scans"
    with BagWriter(path) as bag:
        names = "angle_min angle_max angle_increment time_increment scan_time range_min range_max"
        floats = dict.fromkeys(names.split(), 0.1)
        empty = np.zeros(0, np.float32)
        scan = messages.build(
            "sensor_msgs/msg/LaserScan", header=messages.header(1, "lidar"), ranges=empty, intensities=empty, **floats
        )
        bag.write("/scan", scan, 1)
        bag.write("/livox/lidar", messages.odometry(np.eye(4), 1), 1)
    return path


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (None, r"has no point cloud .*; /scan is sensor_msgs/msg/LaserScan\. A 2D scan is no 3D cloud"),
        ("/livox/lidar", r"/livox/lidar of .* is nav_msgs/msg/Odometry, not sensor_msgs/msg/PointCloud2\. Name a"),
        ("/scan", r"/scan of .* is sensor_msgs/msg/LaserScan, not .*2D scan"),
    ],
)
def test_no_cloud_names_topic_type_and_remedy(scans: Path, wanted: str | None, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        Bag(scans, points=wanted)


def test_other_name_lists_the_clouds(drive: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no topic /lidar\. Its clouds are /points"):
        Bag(drive, points="/lidar")
