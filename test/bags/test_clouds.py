"""Which cloud of a bag is taken; a bag without it: the words name topic, type and remedy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ov3d_perception.bags import messages
from ov3d_perception.bags.clouds import choose_cloud
from ov3d_perception.bags.info import info
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.bags.writer import BagWriter
from ov3d_perception.datasets.bag import Bag
from ov3d_perception.datasets.bag_scans import scans_of_bag
from ov3d_perception.doctor.examine import examine
from ov3d_perception.errors import DatasetError
from ov3d_perception.odometry.of_bag import trajectory_of_bag


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


def bag_of(path: Path, *topics: str) -> Path:
    """One cloud of one point on each of these topics."""
    with BagWriter(path) as bag:
        for topic in topics:
            bag.write(topic, messages.point_cloud(dict.fromkeys("xyz", np.ones(1, np.float32)), 1, "lidar"), 1)
    return path


@pytest.mark.parametrize(
    ("topics", "wanted", "chosen"),
    [
        (("/left/points", "/points"), None, "/points"),
        (("/left/points", "/ground_truth/points"), "", "/left/points"),
        (("/left/points", "/right/points"), "/right/points", "/right/points"),
        (("/left/points", "/points"), "left/points", "/left/points"),
    ],
)
def test_which_cloud_is_taken(topics: tuple[str, ...], wanted: str | None, chosen: str, tmp_path: Path) -> None:
    with open_bag(bag_of(tmp_path / "bag", *topics)) as bag:
        assert choose_cloud(bag, wanted) == chosen


def test_of_several_clouds_every_reader_wants_a_name(tmp_path: Path) -> None:
    path = bag_of(tmp_path / "bag", "/left/points", "/right/points")
    said = r"has several clouds: /left/points, /right/points. Name the LiDAR's: points=NAME, .*--points NAME"
    for reads in (Bag, trajectory_of_bag, lambda bag: scans_of_bag(bag, {}, framed=False)):
        with pytest.raises(DatasetError, match=said):
            reads(path)
    finding = next(finding for finding in examine(path).errors if finding.check == "clouds")
    assert "/left/points, /right/points" in finding.what and "--points" in finding.do
    assert "/left/points: 1 points" in str(info(path))  # which tells of all


def test_the_frame_of_a_bag_without_poses_is_that_of_the_cloud_that_is_read(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        for side in ("left", "right"):
            cloud = messages.point_cloud(dict.fromkeys("xyz", np.ones(1, np.float32)), 1, f"{side}_lidar")
            bag.write(f"/{side}/points", cloud, 1)
    source = scans_of_bag(tmp_path / "bag", {"points": "right/points"}, framed=False)
    assert source.fixed_frame == "right_lidar" and len(source) == 1
