"""Livox's ``CustomMsg`` as the PointCloud2 that the same driver would send with ``xfer_format: 0``.

The message's definition is Livox's (livox_ros_driver2, MIT), as far as reading needs it. Points are read from the
serialised bytes: rosbags and rclpy would make an object of each of 20,000 points.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

from ov3d_perception.bags.pointcloud2 import CloudLayout, encode
from ov3d_perception.errors import PointCloudError

PACKAGES = ("livox_ros_driver2", "livox_ros_driver", "livox_interfaces")  # of today's and the former drivers
TYPES = tuple(f"{package}/msg/CustomMsg" for package in PACKAGES)
POINT = "uint32 offset_time\nfloat32 x\nfloat32 y\nfloat32 z\nuint8 reflectivity\nuint8 tag\nuint8 line\n"
CLOUD = (
    "std_msgs/Header header\nuint64 timebase\nuint32 point_num\nuint8 lidar_id\nuint8[3] rsvd\n"
    "{package}/CustomPoint[] points\n"
)
_POINT_BYTES = 20  # 19, and one to align the next


@dataclass(frozen=True)
class Stamp:
    """As builtin_interfaces/Time."""

    sec: int
    nanosec: int


@dataclass(frozen=True)
class Header:
    """As std_msgs/Header."""

    stamp: Stamp
    frame_id: str


@dataclass(frozen=True)
class LivoxCloud(CloudLayout):
    """A cloud with a header, read as a PointCloud2 is: x y z intensity tag line timestamp (ns on the LiDAR's clock)."""

    header: Header = field(kw_only=True)


def livox_cloud(data: bytes) -> LivoxCloud:
    """A CustomMsg from its CDR bytes. Raises PointCloudError where they end before the points that they announce."""
    order = "<" if data[1] & 1 else ">"
    try:
        sec, nanosec, length = struct.unpack_from(f"{order}iII", data, 4)
        frame_id = bytes(data[16 : 15 + length]).decode(errors="replace")  # without its terminating zero
        at = 4 + _aligned(12 + length, 8)
        timebase, _, count = struct.unpack_from(f"{order}QI4xI", data, at)
    except struct.error as error:
        raise _truncated(f"ends in its head ({len(data)} bytes)") from error
    first = at + 20
    if len(data) - first < max(0, count * _POINT_BYTES - 1):
        raise _truncated(f"of {count} points has {len(data)} bytes")
    raw = np.frombuffer(bytes(data[first : first + count * _POINT_BYTES]).ljust(count * _POINT_BYTES, b"\0"), np.uint8)
    names = ("offset_time", "x", "y", "z", "reflectivity", "tag", "line")
    formats = [order + code for code in ("u4", "f4", "f4", "f4", "u1", "u1", "u1")]
    points = raw.view(
        np.dtype({"names": names, "formats": formats, "offsets": (0, 4, 8, 12, 16, 17, 18), "itemsize": _POINT_BYTES})
    )
    columns = {axis: points[axis].astype(np.float32) for axis in "xyz"}
    columns |= {"intensity": points["reflectivity"].astype(np.float32), "tag": points["tag"], "line": points["line"]}
    columns["timestamp"] = (np.uint64(timebase) + points["offset_time"].astype(np.uint64)).astype(np.float64)
    layout = encode(columns)
    return LivoxCloud(**vars(layout), header=Header(Stamp(sec, nanosec), frame_id))


def _aligned(offset: int, to: int) -> int:
    return -(-offset // to) * to


def _truncated(what: str) -> PointCloudError:
    return PointCloudError(f"A Livox CustomMsg {what}", "The message is truncated: check the driver, or record it anew")
