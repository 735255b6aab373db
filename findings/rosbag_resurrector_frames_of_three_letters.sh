#!/usr/bin/env bash
# rosbag-resurrector 0.8.7 takes messages in bags apart by itself, and its steps for alignment fail valid ROS 2 messages:
# - TFMessage: a length in CDR begins at a multiple of 4 bytes; after the parent frame's name that step is missing. Only where
#   the name has 3, 7, 11, ... letters ("map") is the transform read. One below "odom" or "base_link" is left out, with all that
#   follow in the message, without error or warning, so a tree of TF is empty or cut off.
# - JointState: it takes 8-byte steps for empty lists too, where none are written. Positions without velocities and efforts, as
#   joint_state_publisher and many arms send them, are lost with a warning in the log; with efforts but no velocities the
#   efforts are read as none or something else, without one.
# - synchronize(..., "sample_and_hold") does not use tolerance_ms, though its description gives it to all methods: the last
#   value of a topic that has ended is held until the end of the bag.
# - downsample_dataframe thins plots by the shape of the first numeric column, which is the header's whole seconds for what has
#   a header: peaks of the others are gone.
# mcap-ros2-support 0.5.7 reads the same messages whole.
# Seen here: of 4 messages with a transform each below map, odom, base_link and world (3, 4, 9, 5 letters) 1 is read, and 0 of
# 3 in one message whose first is odom's; positions alone: nothing; efforts 2.0 beside positions: none; a reading of 1 s held
# for 9 s with a tolerance of 50 ms; 1 peak in 5000 rows thinned to 100: 0 left.
# The database and tables that its imports want and this way of reading does not are stood in for.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q mcap==1.3.1 mcap-ros2-support==0.5.7 polars==1.35.2 numpy==2.2.6
"$tmp/venv/bin/pip" install -q --no-deps rosbag-resurrector==0.8.7
cd "$tmp"
venv/bin/python -W ignore - <<'PYTHON'
import logging
import sys
from importlib.metadata import version
from unittest.mock import MagicMock

for name in "duckdb", "pandas":
    sys.modules[name] = MagicMock()
logging.disable(logging.CRITICAL)

import polars as pl
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from mcap_ros2.writer import Writer
from resurrector.core.bag_frame import BagFrame
from resurrector.core.downsample import downsample_dataframe
from resurrector.core.sync import synchronize
from resurrector.ingest.parser import parse_bag

LINE = "=" * 80 + "\n"
HEADER = (
    f"{LINE}MSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n"
    f"{LINE}MSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n"
)
TRANSFORMS = (
    f"geometry_msgs/TransformStamped[] transforms\n{LINE}MSG: geometry_msgs/TransformStamped\nstd_msgs/Header header\n"
    "string child_frame_id\ngeometry_msgs/Transform transform\n"
    f"{LINE}MSG: geometry_msgs/Transform\ngeometry_msgs/Vector3 translation\ngeometry_msgs/Quaternion rotation\n"
    f"{LINE}MSG: geometry_msgs/Vector3\nfloat64 x\nfloat64 y\nfloat64 z\n"
    f"{LINE}MSG: geometry_msgs/Quaternion\nfloat64 x\nfloat64 y\nfloat64 z\nfloat64 w\n{HEADER}"
)
JOINTS = f"std_msgs/Header header\nstring[] name\nfloat64[] position\nfloat64[] velocity\nfloat64[] effort\n{HEADER}"


def head(frame):
    return {"stamp": {"sec": 1, "nanosec": 0}, "frame_id": frame}


def transform(parent):
    place = {"translation": {"x": 1.0, "y": 2.0, "z": 3.0}, "rotation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}}
    return {"header": head(parent), "child_frame_id": "sensor", "transform": place}


def joints(position, velocity, effort):
    return {"header": head("base"), "name": ["arm"], "position": position, "velocity": velocity, "effort": effort}


def bag(path, *messages):
    with open(path, "wb") as file:
        writer = Writer(file)
        kinds = {
            "/tf": writer.register_msgdef("tf2_msgs/msg/TFMessage", TRANSFORMS),
            "/arm": writer.register_msgdef("sensor_msgs/msg/JointState", JOINTS),
            "/other": writer.register_msgdef("sensor_msgs/msg/JointState", JOINTS),
        }
        for topic, time, message in messages:
            writer.write_message(topic, kinds[topic], message, log_time=time, publish_time=time)
        writer.finish()


parents = "map", "odom", "base_link", "world"
sent = [("/tf", time, {"transforms": [transform(parent)]}) for time, parent in enumerate(parents)]
sent.append(("/tf", 4, {"transforms": [transform(parent) for parent in ("odom", "map", "map")]}))
sent.append(("/arm", 5, joints([1.5], [], [])))
sent.append(("/arm", 6, joints([1.5], [], [2.0])))
bag("made.mcap", *sent)

with open("made.mcap", "rb") as file:
    whole = [message for *_, message in make_reader(file, decoder_factories=[DecoderFactory()]).iter_decoded_messages()]
other = [len(message.transforms) for message in whole[:5]], [(list(m.position), list(m.effort)) for m in whole[5:]]
read = [message.data for message in parse_bag("made.mcap").read_messages()]
own = [data["_count"] for data in read[:5]], [(data.get("position"), data.get("effort")) for data in read[5:]]

SECOND = 10**9
bag(
    "sync.mcap",
    *[("/arm", step * SECOND // 10, joints([float(step)], [0.0], [0.0])) for step in range(101)],
    *[("/other", step * SECOND // 10, joints([float(step)], [0.0], [0.0])) for step in range(11)],
)
frame = BagFrame("sync.mcap")
views = {topic: frame[topic] for topic in ("/arm", "/other")}
table = synchronize(views, method="sample_and_hold", tolerance_ms=50, anchor="/arm")
(column,) = [name for name in table.columns if "other" in name and "position" in name]
values = table[column].to_list()
held = sum(value in (10.0, [10.0]) for value in values[11:])

rows = 5000
peaks = [9.0 if row == 2503 else 0.0 for row in range(rows)]
stamps = [row * SECOND // 200 for row in range(rows)]
plot = pl.DataFrame({"timestamp_ns": stamps, "header.stamp_sec": [stamp // SECOND for stamp in stamps], "x": peaks})
left = int((downsample_dataframe(plot, 100)["x"] > 0).sum())

print("rosbag-resurrector", version("rosbag-resurrector"), own, "held", held, "of", len(values) - 11, "peaks", left)
print("mcap-ros2-support", version("mcap-ros2-support"), other)
right = other == ([1, 1, 1, 1, 3], [([1.5], []), ([1.5], [2.0])])
same = right and own == ([1, 0, 0, 0, 0], [(None, None), ([1.5], [])]) and held == 90 and left == 0
sys.exit(0 if same else "changed: transforms, joints, held values or thinned plots")
PYTHON
