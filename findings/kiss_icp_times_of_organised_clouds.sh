#!/usr/bin/env bash
# kiss-icp 1.3.0 (rosbags 0.11.9), kiss_icp.tools.point_cloud2.read_point_cloud, which its rosbag and MCAP loaders use, drops
# points that are NaN but keeps their times. An organised sensor_msgs/PointCloud2 marks a missing return by NaN, so from
# the first one on every point has the time of another, and de-skewing moves it by another part of the motion. Reader and
# preprocessor, which is given 5 points with 8 times here, say nothing.
# Seen here: two rings of four columns at 0, 1/3, 2/3 and 1 of a scan, the first ring's last three returns missing, all
# points at x = 10 m, 3 m of motion forwards. By their own times the points come to x = 7 | 7, 8, 9, 10 in the sensor's
# frame at the scan's end; what comes out is 7 | 8, 9, 10, 7.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q kiss-icp==1.3.0 rosbags==0.11.9 numpy==2.4.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from kiss_icp.config import load_config
from kiss_icp.preprocess import get_preprocessor
from kiss_icp.tools.point_cloud2 import read_point_cloud
from rosbags.typesys import Stores, get_typestore

types = get_typestore(Stores.ROS2_JAZZY).types
stamp = types["builtin_interfaces/msg/Time"](sec=0, nanosec=0)
header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="lidar")
field = types["sensor_msgs/msg/PointField"]
fields = [field(name=name, offset=4 * i, datatype=7, count=1) for i, name in enumerate(("x", "y", "z", "time"))]
cloud = np.zeros((2, 4, 4), np.float32)  # ring, column, (x y z time)
cloud[..., 0], cloud[1, :, 1], cloud[..., 3] = 10, 1, np.arange(4) / 30
cloud[0, 1:, :3] = np.nan
message = types["sensor_msgs/msg/PointCloud2"](
    header=header, height=2, width=4, fields=fields, is_bigendian=False, point_step=16, row_step=64,
    data=cloud.reshape(-1).view(np.uint8), is_dense=False)  # fmt: skip

points, times = read_point_cloud(message)
own = times[~np.isnan(cloud[..., 0].reshape(-1))]
motion = np.eye(4)
motion[0, 3] = 3
deskew = get_preprocessor(load_config(None)).preprocess
seen, true = deskew(points, times, motion)[:, 0], deskew(points, own, motion)[:, 0]
print(f"kiss-icp {version('kiss-icp')}: {len(points)} points, {len(times)} times; x {seen.round(3)}, by their own {true.round(3)}")
same = len(points) == 5 and len(times) == 8
same = same and np.allclose(true, [7, 7, 8, 9, 10], atol=1e-3) and np.allclose(seen, [7, 8, 9, 10, 7], atol=1e-3)
sys.exit(0 if same else "changed: times stay with their points, or the lengths are compared")
PYTHON
