#!/usr/bin/env bash
# kappe 0.25.0 rewrites MCAP recordings of ROS 2 (rename topics, filter clouds, shift times). What comes out differs by more than
# the configuration says:
# 1. /tf_static is VOLATILE in every file that it writes, even if only another topic is renamed. Players offer what the file
#    says, and TF listeners ask for transient local, which a volatile publisher does not satisfy: no static transform arrives.
# 2. remove_zero, "points with all zero coordinates", ignores z: (0, 0, 2), straight above the sensor, goes, too.
# 3. Any rule for a cloud, if it only renames a field, makes an organised one (height 2 here) a single row.
# 4. time_offset computes in doubles: stamps of today come to a raster of 256 ns, and what is less than 128 ns before a second is
#    at it. Clouds and images whose stamps were equal differ once one of them is shifted.
# 5. euler_deg: [roll, pitch, yaw], for clouds and static transforms, is Rx(roll) Ry(pitch) Rz(yaw), the other order than
#    a URDF's rpy and static_transform_publisher's. Its documentation gives no order.
# Seen here: durability 2 (volatile) of a channel that was transient_local; 4 of 6 points, where 5 are right; 2 x 3 becomes 1 x 6;
# 1700000000.123456789 + 1 s is 1700000001.123456768, 1700000000.999999999 + 1 s is 1700000002.0; x turned by (10, 20, 30)
# degrees is (0.814, 0.544, -0.205), by rpy (0.814, 0.470, -0.342).
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q kappe==0.25.0 mcap==1.6.0 mcap-ros2-support==0.6.0 pointcloud2==0.6.0 rosbags==0.11.9 numpy==2.2.6
cd "$tmp"
PATH="$tmp/venv/bin:$PATH" python - <<'PYTHON'
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from mcap_ros2.reader import read_ros2_messages
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

START = 1_700_000_000
POINTS = np.array([(1, 0, 0), (0, 0, 2), (0, 3, 0), (0, 0, 0), (7, 8, 9), (4, 5, 6)], "<f4")
ANGLES = np.deg2rad([10, 20, 30])
store = get_typestore(Stores.ROS2_HUMBLE)


def make(name, *values):
    return store.types[name](*values)


def header(nanoseconds, frame):
    return make("std_msgs/msg/Header", make("builtin_interfaces/msg/Time", START, nanoseconds), frame)


fields = [make("sensor_msgs/msg/PointField", name, 4 * i, 7, 1) for i, name in enumerate("xyz")]
clouds = [
    make(
        "sensor_msgs/msg/PointCloud2",
        header(ns, "lidar"),
        2,
        3,
        fields,
        False,
        12,
        36,
        POINTS.view(np.uint8).ravel(),
        True,
    )
    for ns in (123456789, 999999999)
]
pose = make(
    "geometry_msgs/msg/Transform",
    make("geometry_msgs/msg/Vector3", 1, 0, 0),
    make("geometry_msgs/msg/Quaternion", 0, 0, 0, 1),
)
static = make("tf2_msgs/msg/TFMessage", [make("geometry_msgs/msg/TransformStamped", header(0, "base"), "lidar", pose)])
never = QosTime(0, 0)
latched = Qos(
    QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, never, never, QosLiveliness.AUTOMATIC, never, False
)  # fmt: skip
with Writer(Path("in"), version=9, storage_plugin=StoragePlugin.MCAP) as writer:
    for topic, messages, qos in (("/tf_static", [static], [latched]), ("/points", clouds, [])):
        msgtype = messages[0].__msgtype__
        connection = writer.add_connection(topic, msgtype, typestore=store, offered_qos_profiles=qos)
        for i, message in enumerate(messages):
            writer.write(connection, START * 10**9 + i, store.serialize_cdr(message, msgtype))


def converted(name, config):
    """The durability of /tf_static, as the file has it, and the clouds."""
    Path(f"{name}.yaml").write_text(config)
    source = next(Path("in").glob("*.mcap"))
    command = ["kappe", "convert", "--config", f"{name}.yaml", source, f"{name}.mcap"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    durability, found = "", []
    for one in read_ros2_messages(f"{name}.mcap"):
        if one.channel.topic == "/tf_static":
            durability = one.channel.metadata["offered_qos_profiles"].split("durability: ")[1].split()[0]
        else:
            found.append(one.ros_msg)
    return durability, found


def about(axis, angle):
    rotation, (i, j) = np.eye(3), [(axis + 1) % 3, (axis + 2) % 3]
    rotation[i, i] = rotation[j, j] = np.cos(angle)
    rotation[j, i], rotation[i, j] = np.sin(angle), -np.sin(angle)
    return rotation


def points(cloud):
    return np.frombuffer(bytes(cloud.data), "<f4").reshape(-1, 3)


durability, _ = converted("renamed", "topic: {mapping: {/points: /scan}}")
_, (kept, _) = converted("zero", "point_cloud: {/points: {remove_zero: true}}")
_, (flat, _) = converted("field", "point_cloud: {/points: {field_mapping: {intensity: i}}}")
_, shifted = converted("shifted", "time_offset: {/points: {sec: 1}}")
_, (turned, _) = converted("turned", "point_cloud: {/points: {rotation: {euler_deg: [10, 20, 30]}}}")
stamps = [(one.header.stamp.sec - START, one.header.stamp.nanosec) for one in shifted]
x = points(turned)[0]
roll, pitch, yaw = (about(axis, angle) for axis, angle in enumerate(ANGLES))
other, rpy = (roll @ pitch @ yaw)[:, 0], (yaw @ pitch @ roll)[:, 0]
print("kappe", version("kappe"), "durability:", durability, "kept:", points(kept).tolist(), "shape:", (flat.height, flat.width),
      "stamps:", stamps, "x:", x.round(3).tolist(), "by rpy:", rpy.round(3).tolist())  # fmt: skip
same = durability == "2" and len(points(kept)) == 4 and (0, 0, 2) not in map(tuple, points(kept).tolist())
same = same and (flat.height, flat.width) == (1, 6) and stamps == [(1, 123456768), (2, 0)]
same = same and np.allclose(x, other, atol=1e-6)
sys.exit(
    0 if same and not np.allclose(x, rpy, atol=0.05) else "changed: only what the configuration names is different"
)
PYTHON
