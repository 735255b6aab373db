#!/usr/bin/env bash
# pypcd4 1.5.1, PointCloud.from_msg, by which bags become PCD files, ignores two fields of sensor_msgs/PointCloud2 (rosbags
# 0.11.9 gives the messages), and pointcloud2 0.6.0, the reader "for non ROS environments", neither of them:
# 1. row_step: the rows of an organised cloud may be padded. Where the padding is a multiple of a point it is read as points
#    (zeros, or what was in the buffer): there are more of them than width * height, which the PCD's header then
#    contradicts; where it is not, numpy raises.
# 2. is_bigendian: the bytes are taken as little-endian; coordinates are of the order of 1e-41, all at the origin.
# Seen here: two rows of four points with one point's bytes of padding each: 10 points, the fifth one (0, 0, 0), WIDTH 4,
# HEIGHT 2, POINTS 10; x of 3 in big-endian is 2.3e-41. pointcloud2: 8 points and 3 both times.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q pypcd4==1.5.1 pointcloud2==0.6.0 rosbags==0.11.9 numpy==2.4.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import pointcloud2
from pypcd4 import PointCloud
from rosbags.typesys import Stores, get_typestore

types = get_typestore(Stores.ROS2_JAZZY).types
Message, Field, Header, Time = (
    types[name]
    for name in ("sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/PointField", "std_msgs/msg/Header")
    + ("builtin_interfaces/msg/Time",)
)
POINTS = np.arange(24, dtype="<f4").reshape(2, 4, 3)


def message(data, row_step, big):
    fields = [Field(name, 4 * place, 7, 1) for place, name in enumerate("xyz")]
    return Message(Header(Time(0, 0), ""), 2, 4, fields, big, 12, row_step, np.frombuffer(data, np.uint8), True)


padded = message(b"".join(row.tobytes() + b"\0" * 12 for row in POINTS), 60, False)
big = message(POINTS.astype(">f4").tobytes(), 48, True)
first, second = PointCloud.from_msg(padded), PointCloud.from_msg(big)
rows, header = first.numpy(), first.metadata
print("pypcd4", version("pypcd4"), len(rows), rows[4], header.width, header.height, header.points, second.numpy()[1])
others = [pointcloud2.read_points(one) for one in (padded, big)]
print("pointcloud2", version("pointcloud2"), [(len(one), one["x"][1].item()) for one in others])
wrong = len(rows) == 10 == header.points and not rows[4].any() and (header.width, header.height) == (4, 2)
wrong = wrong and 0 < second.numpy()[1, 0] < 1e-30
right = all(np.array_equal(one["x"].ravel(), POINTS[..., 0].ravel()) for one in others)
sys.exit(0 if wrong and right else "changed: padding is no point, or big-endian clouds are read")
PYTHON
