#!/usr/bin/env bash
# pybag-sdk 0.13.0, `pybag convert drive.bag -o drive.mcap`, which makes MCAP files of profile ros2 of ROS 1 bags: std_msgs/Header
# keeps ROS 1's `seq`, in the definition and in the bytes. Readers that go by the file's definition (mcap-ros2-support) show the
# right stamp, so that it looks well converted. ROS 2 knows these types by their names: a player hands the bytes on, and in a
# node seq is taken for the seconds, the seconds for the nanoseconds, and frame_id begins at the true nanoseconds. Where
# these happen to be a short string's length the rest of the message fits, and rclpy raises nothing: a scan of
# 1970 in a frame that no transform knows. (CameraInfo, whose K has a capital, is refused.) rosbags-convert leaves seq out.
# Seen here, rclpy 7.1.6 (ros-jazzy-rclpy): stamp 1700000000 s + 5 ns, seq 7, frame "lidar": sec 7, nanosec 1700000000,
# frame_id "\x06", accelerations right; by the file's own definition 1700000000 s, 5 ns, "lidar".
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q pybag-sdk==0.13.0 rosbags==0.11.9 mcap==1.6.0 mcap-ros2-support==0.6.0 numpy==2.4.6
"$tmp/venv/bin/pip" install -q "ros-jazzy-rclpy[fastrtps]==7.1.6" ros-jazzy-sensor-msgs==5.3.6
cd "$tmp"
PATH="$tmp/venv/bin:$PATH" python - <<'PYTHON'
import subprocess
from pathlib import Path

import numpy as np
from mcap.reader import make_reader
from mcap_ros2.reader import read_ros2_messages
from rosbags.rosbag1 import Writer
from rosbags.typesys import Stores, get_typestore

store, imu = get_typestore(Stores.ROS1_NOETIC), "sensor_msgs/msg/Imu"


def make(name, *values):
    return store.types[name](*values)


header = make("std_msgs/msg/Header", 7, make("builtin_interfaces/msg/Time", 1_700_000_000, 5), "lidar")
none, turn = np.zeros(9), make("geometry_msgs/msg/Quaternion", 0.0, 0.0, 0.0, 1.0)
rate, force = (make("geometry_msgs/msg/Vector3", *vector) for vector in ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)))
message = make(imu, header, turn, none, rate, none, force, none)
with Writer("drive.bag") as writer:
    writer.write(
        writer.add_connection("/imu", imu, typestore=store), 1_700_000_000 * 10**9, store.serialize_ros1(message, imu)
    )
subprocess.run(["pybag", "convert", "drive.bag", "-o", "drive.mcap"], check=True, stdout=subprocess.DEVNULL)
with open("drive.mcap", "rb") as file:
    reader = make_reader(file)
    print("profile", reader.get_header().profile)
    ((schema, _, found),) = reader.iter_messages()
    print("type", schema.name, "seq in the definition:", "uint32 seq" in schema.data.decode())
    Path("imu.cdr").write_bytes(found.data)
(own,) = (one.ros_msg.header for one in read_ros2_messages("drive.mcap"))
Path("own.txt").write_text(f"{own.stamp.sec} {own.stamp.nanosec} {own.frame_id}")
PYTHON
venv/bin/python - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Imu

own = Path("own.txt").read_text()
read = deserialize_message(Path("imu.cdr").read_bytes(), Imu)
stamp, force = read.header.stamp, read.linear_acceleration
node = stamp.sec, stamp.nanosec, read.header.frame_id, force.x, force.y, force.z
print("pybag-sdk", version("pybag-sdk"), "rclpy:", node, "by the file's definition:", own)
same = own == "1700000000 5 lidar" and node == (7, 1_700_000_000, "\x06", 4.0, 5.0, 6.0)
sys.exit(0 if same else "changed: ROS 2 reads the header that was recorded")
PYTHON
