"""A bag without the cloud: the words name topic, type and remedy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ov3d_perception.bags import messages
from ov3d_perception.bags.info import info
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


@pytest.fixture
def with_empty_topics(tmp_path: Path) -> Path:
    """As rosbag2 stores it: topics that were subscribed to and never published stand beside the LiDAR's."""
    path = tmp_path / "empty_topics"
    xyz = dict.fromkeys("xyz", np.float32([1, 2, 3]))
    with BagWriter(path) as bag:
        for topic, kind in (("/points", "PointCloud2"), ("/imu", "Imu"), ("/front/image_raw", "Image")):
            bag.add_topic(topic, f"sensor_msgs/msg/{kind}")
        bag.add_topic("/front/camera_info", "sensor_msgs/msg/CameraInfo")
        for stamp in (1, 2, 3):
            bag.write("/odom_tf", messages.tf_message([("odom", "lidar", stamp, np.eye(4))]), stamp)
            bag.write("/velodyne_points", messages.point_cloud(xyz, stamp, "lidar"), stamp)
    return path


def test_topics_without_a_message_are_no_clouds(with_empty_topics: Path) -> None:
    bag = Bag(with_empty_topics)
    assert len(bag) == 3 and len(bag.frame(0).sweeps[0].scan) == 3
    with pytest.raises(DatasetError, match=r"holds no message of /points\. Record it while"):
        Bag(with_empty_topics, points="/points")
    said = str(info(with_empty_topics))
    assert "/velodyne_points: 3 points" in said
    assert "/front/image_raw (sensor_msgs/msg/Image, which holds no message)" in said


def test_a_bag_whose_only_cloud_holds_no_message(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/points", "sensor_msgs/msg/PointCloud2")
        bag.write("/tf", messages.tf_message([("odom", "lidar", 1, np.eye(4))]), 1)
    with pytest.raises(DatasetError, match="holds no message of /points"):
        Bag(tmp_path / "bag")
