#!/usr/bin/env bash
# rosbags 0.11.9, rosbags-convert of a ROS 1 bag into a ROS 2 bag, as everybody calls it (--src FILE.bag --dst FOLDER): definitions
# are copied as they are, which its help says, and so sensor_msgs/CameraInfo stays ROS 1's: D, K, R and P instead of d, k, r and p.
# ROS 2's tools take the message for their own, the bytes being the same, and nothing looks odd. But the bag names another
# type hash than ROS 2 has for CameraInfo, readers that go by the bag's definition have a message without k, and
# mcap-ros2-support 0.6.0 refuses the topic, since ROS 2 has no field names with capitals: a recording loses its calibration,
# while images and clouds are read. (stereo_msgs/DisparityImage's T likewise.) --dst-typestore ros2_jazzy, which the help calls
# experimental, gives ROS 2's message.
# Seen here: fields D, K, R, P with the hash RIHS01_b303399f..., of ROS 2 RIHS01_b3dfd68f...; "'D' is an invalid field name".
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q rosbags==0.11.9 mcap-ros2-support==0.6.0 numpy==2.2.6
cd "$tmp"
PATH="$tmp/venv/bin:$PATH" python - <<'PYTHON'
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from mcap_ros2.reader import read_ros2_messages
from rosbags.highlevel import AnyReader
from rosbags.rosbag1 import Writer
from rosbags.typesys import Stores, get_typestore

INFO = "sensor_msgs/msg/CameraInfo"
store = get_typestore(Stores.ROS1_NOETIC)
header = store.types["std_msgs/msg/Header"](7, store.types["builtin_interfaces/msg/Time"](100, 5), "camera")
region = store.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
matrices = np.zeros(5), np.float64([500, 0, 320, 0, 500, 240, 0, 0, 1]), np.eye(3).ravel(), np.zeros(12)
info = store.types[INFO](header, 480, 640, "plumb_bob", *matrices, 0, 0, region)
with Writer("drive.bag") as writer:
    writer.write(writer.add_connection("/camera_info", INFO, typestore=store), 10**11, store.serialize_ros1(info, INFO))


def converted(*options):
    """Names of the matrices, type hash, and what the MCAP's reader says."""
    name = "-".join(("out", *options)).replace("-", "")
    command = ["rosbags-convert", "--src", "drive.bag", "--dst", name, "--dst-storage", "mcap", *options]
    subprocess.run(command, check=True)
    with AnyReader([Path(name)]) as reader:
        (connection,) = reader.connections
        names = [field for field, _ in reader.typestore.fielddefs[INFO][1] if field.lower() in "dkrp"]
        digest = connection.digest
    try:
        said = str(list(next(read_ros2_messages(str(next(Path(name).glob("*.mcap"))))).ros_msg.k)[:3])
    except NameError as error:
        said = str(error).split(".")[0]
    return "".join(names), digest, said


plain, told = converted(), converted("--dst-typestore", "ros2_jazzy")
ours = get_typestore(Stores.ROS2_JAZZY).hash_rihs01(INFO)
print("rosbags", version("rosbags"), "as it is:", plain, "told:", told, "ROS 2's hash:", ours)
same = plain[0] == "DKRP" and plain[1] != ours and "invalid field name" in plain[2]
sys.exit(0 if same and told[0] == "dkrp" and told[1] == ours else "changed: a converted bag has ROS 2's messages")
PYTHON
