#!/usr/bin/env bash
# importRosbag 1.0.4 reads ROS 1 bags without ROS (rosbags 0.11.9 wrote the one here):
# 1. A bag has a connection for each PUBLISHER of a topic. Of several, the messages of one are returned, those of the others are
#    gone. /tf has as many as there are nodes that send transforms, and after a node was started anew it is another one.
# 2. Image.step is not used: the gaps of images with padded rows are read as pixels, so that they lean and lose their end.
# 3. PointCloud2: the names and offsets of the fields are not used, the first three numbers are x, y, z.
# Seen here: of four poses, three by one node and one by another, the last; rows 1 2 3 4 and 5 6 7 8 with a step of 8 are
# 1 2 3 4 and the gap; points (1, 2, 3) behind an intensity 0.5 are (0.5, 1, 2).
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q importRosbag==1.0.4 rosbags==0.11.9 numpy==2.2.6
cd "$tmp"
venv/bin/python -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from importRosbag.importRosbag import importRosbag
from rosbags.rosbag1 import Writer
from rosbags.typesys import Stores, get_typestore

store = get_typestore(Stores.ROS1_NOETIC)


def make(name, *values):
    return store.types[name](*values)


def header(seconds, frame):
    return make("std_msgs/msg/Header", 0, make("builtin_interfaces/msg/Time", seconds, 0), frame)


poses = [
    make("geometry_msgs/msg/PoseStamped", header(100 + i, "map"),
         make("geometry_msgs/msg/Pose", make("geometry_msgs/msg/Point", i, 0, 0), make("geometry_msgs/msg/Quaternion", 0, 0, 0, 1)))
    for i in range(4)
]  # fmt: skip
rows = np.array([[1, 2, 3, 4, 99, 99, 99, 99], [5, 6, 7, 8, 99, 99, 99, 99]], np.uint8)
image = make("sensor_msgs/msg/Image", header(100, "cam"), 2, 4, "mono8", 0, 8, rows.ravel())
names = ("intensity", "x", "y", "z")
points = np.array([[0.5, 1, 2, 3], [0.5, 4, 5, 6]], "<f4")
fields = [make("sensor_msgs/msg/PointField", name, 4 * i, 7, 1) for i, name in enumerate(names)]
cloud = make("sensor_msgs/msg/PointCloud2", header(100, "lidar"), 1, 2, fields, False, 16, 32, points.view(np.uint8).ravel(), True)
with Writer(Path("drive.bag")) as writer:
    for topic, node, messages in (("/pose", "/one", poses[:3]), ("/pose", "/two", poses[3:]), ("/image", "", [image]), ("/points", "", [cloud])):
        kind = messages[0].__msgtype__
        connection = writer.add_connection(topic, kind, typestore=store, callerid=node or None)
        for message in messages:
            writer.write(connection, message.header.stamp.sec * 10**9, store.serialize_ros1(message, kind))
read = importRosbag("drive.bag", disable_bar=True)
found = read["/pose"]["point"][:, 0].tolist(), read["/image"]["frames"][0].tolist(), read["/points"]["point"].tolist()
print("importRosbag", version("importRosbag"), "x of the poses:", found[0], "image:", found[1], "points:", found[2])
same = found == ([3], [[1, 2, 3, 4], [99, 99, 99, 99]], [[0.5, 1, 2], [0.5, 4, 5]])
sys.exit(0 if same else "changed: all publishers, steps or fields are read")
PYTHON
