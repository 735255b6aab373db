"""Livox's CustomMsg is read as the PointCloud2 that the same driver sends with xfer_format 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ov3d_perception.bags import messages
from ov3d_perception.bags.info import info
from ov3d_perception.bags.livox import TYPES, livox_cloud
from ov3d_perception.bags.pointcloud2 import read, structured
from ov3d_perception.bags.typestore import typestore
from ov3d_perception.bags.writer import BagWriter
from ov3d_perception.datasets.bag import Bag
from ov3d_perception.errors import PointCloudError

STAMP = 1_700_000_000_123_456_789
COUNT = 500


def measured() -> dict[str, np.ndarray]:
    """What a sensor measured; the first point is one without a return."""
    generator = np.random.default_rng(3)
    xyz = generator.uniform(-30, 30, (COUNT, 3)).astype(np.float32)
    xyz[0] = 0.0
    return {
        "xyz": xyz,
        "reflectivity": generator.integers(0, 256, COUNT).astype(np.uint8),
        "tag": generator.integers(0, 64, COUNT).astype(np.uint8),
        "line": (np.arange(COUNT) % 4).astype(np.uint8),
        "offset_time": np.linspace(0, 99_000_000, COUNT).astype(np.uint32),
    }


def moments() -> np.ndarray:
    """As the driver rounds them: the sum in uint64, then a double."""
    return (np.uint64(STAMP) + measured()["offset_time"].astype(np.uint64)).astype(np.float64)


def custom(frame_id: str = "livox_frame", msgtype: str = TYPES[0], timebase: int = STAMP) -> Any:
    of = measured()
    point = msgtype.replace("CustomMsg", "CustomPoint")
    columns = {axis: of["xyz"][:, i] for i, axis in enumerate("xyz")}
    columns |= {name: of[name] for name in ("reflectivity", "tag", "line", "offset_time")}
    points = [messages.build(point, **{k: column[i].item() for k, column in columns.items()}) for i in range(COUNT)]
    header = messages.header(STAMP, frame_id)
    rest = {"point_num": COUNT, "lidar_id": 192, "rsvd": np.zeros(3, np.uint8)}
    return messages.build(msgtype, header=header, timebase=timebase, points=points, **rest)


def pointcloud2() -> Any:
    """The 26 bytes a point of livox_ros_driver2: float x y z intensity, uint8 tag line, double timestamp (ns)."""
    of = measured()
    columns = {axis: of["xyz"][:, i] for i, axis in enumerate("xyz")}
    columns |= {"intensity": of["reflectivity"].astype(np.float32), "tag": of["tag"], "line": of["line"]}
    columns["timestamp"] = moments()
    cloud = messages.point_cloud(columns, STAMP, "livox_frame")
    assert cloud.point_step == 26
    return cloud


@pytest.mark.parametrize("frame_id", ["livox_frame", "", "l", "li", "liv", "livo", "livox/frame_7"])
@pytest.mark.parametrize("little", [True, False])
@pytest.mark.parametrize("msgtype", TYPES)
def test_bytes_of_any_alignment_and_order(frame_id: str, little: bool, msgtype: str) -> None:
    data = bytes(typestore().serialize_cdr(custom(frame_id, msgtype), msgtype, little_endian=little))
    cloud = livox_cloud(data)
    assert cloud.header.frame_id == frame_id
    assert cloud.header.stamp.sec * 1_000_000_000 + cloud.header.stamp.nanosec == STAMP
    points, of = structured(cloud), measured()
    np.testing.assert_array_equal(np.stack([points[a] for a in "xyz"], 1), of["xyz"])
    for name, column in (("intensity", "reflectivity"), ("tag", "tag"), ("line", "line")):
        np.testing.assert_array_equal(points[name], of[column])
    np.testing.assert_array_equal(points["timestamp"], moments())


def test_the_scan_is_that_of_the_same_drivers_pointcloud2() -> None:
    ours = read(livox_cloud(bytes(typestore().serialize_cdr(custom(), TYPES[0]))))
    theirs = read(pointcloud2())
    assert str(ours.times) == str(theirs.times) and "nanoseconds" in str(ours.times)
    assert ours.intensity == theirs.intensity and ours.without_return == theirs.without_return == 1
    assert ours.scan.time is not None and ours.scan.ring is not None
    for name in ("xyz", "intensity", "time", "ring", "source_index"):
        np.testing.assert_array_equal(getattr(ours.scan, name), getattr(theirs.scan, name))
    assert (ours.scan.stamp, ours.scan.frame_id) == (theirs.scan.stamp, theirs.scan.frame_id)
    np.testing.assert_allclose(ours.scan.time, measured()["offset_time"][1:] * 1e-9, atol=1e-6)


@pytest.mark.parametrize("keep", [6, 20, 60, 200, -2])
def test_truncated_bytes_are_refused(keep: int) -> None:
    data = bytes(typestore().serialize_cdr(custom(), TYPES[0]))
    with pytest.raises(PointCloudError, match="CustomMsg"):
        livox_cloud(data[:keep])


def test_an_empty_cloud_is_read_as_one() -> None:
    message = custom()
    message.points, message.point_num = [], 0
    with pytest.raises(PointCloudError, match="empty"):
        read(livox_cloud(bytes(typestore().serialize_cdr(message, TYPES[0]))))


def test_a_bag_of_them_is_a_bag_of_clouds(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "livox") as bag:
        T = np.eye(4)
        bag.write("/tf_static", messages.tf_message([("odom", "livox_frame", 0, T)]), STAMP)
        for _ in range(2):
            bag.write("/livox/lidar", custom(), STAMP)
    frames = Bag(tmp_path / "livox", images=False)
    assert len(frames[0].sweeps[0].scan) == COUNT - 1
    told = str(info(tmp_path / "livox"))
    assert "/livox/lidar: 499 points in frame 'livox_frame'; timestamp: float64 nanoseconds" in told
