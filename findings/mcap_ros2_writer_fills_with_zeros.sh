#!/usr/bin/env bash
# mcap-ros2-support 0.6.0, mcap_ros2.writer.Writer, by which Python programs without ROS write bags: a message is a dict, and
# 1. a key that the definition lacks is dropped, and a field without its key is 0. ROS 1 calls the matrices of CameraInfo K, R
#    and P, as documentation and calibration files still do, ROS 2 calls them k, r and p: {"K": ...} is a camera with a
#    matrix of zeros, which is what REP 104 has for one that is not calibrated.
# 2. an array of fixed size, float64[9] or float64[12], is cut or filled with zeros until it fits: nine numbers for p, the
#    3 x 3 without its fourth column, are another projection. A list that is too short is filled where it is: in the
#    caller's hands it is longer afterwards, too.
# Nothing is raised. rosbags 0.11.9 raises for the first (its messages are dataclasses) and for the second.
# Seen here: K of a camera reads 0, 0, ...; 8 numbers for k read with a last 0, which makes every depth 0; 12 are the first 9.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q mcap-ros2-support==0.6.0 rosbags==0.11.9 numpy==2.4.6
"$tmp/venv/bin/python" - <<'PYTHON'
import io
import sys
from importlib.metadata import version

import numpy as np
from mcap_ros2.reader import read_ros2_messages
from mcap_ros2.writer import Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

NAME, DEFINITION = "site_msgs/msg/Lens", "float64[9] k\nstring distortion_model\n"
CAMERA = [500.0, 0, 320, 0, 500, 240, 0, 0, 1]
given = {"K": {"K": CAMERA}, "eight": {"k": CAMERA[:8]}, "twelve": {"k": [*CAMERA, 7, 8, 9]}}
store = get_typestore(Stores.ROS2_JAZZY)
store.register(get_types_from_msg(DEFINITION, NAME))


def written(message):
    file = io.BytesIO()
    writer = Writer(file)
    writer.write_message("/lens", writer.register_msgdef(NAME, DEFINITION), message, log_time=1, publish_time=1)
    writer.finish()
    (one,) = read_ros2_messages(io.BytesIO(file.getvalue()))
    return list(one.ros_msg.k)


def refused(message):
    """By rosbags."""
    try:
        arrays = {name: np.array(values, float) for name, values in message.items()}
        store.serialize_cdr(store.types[NAME](**arrays, distortion_model=""), NAME)
    except Exception as error:
        return type(error).__name__
    return ""


errors = {name: refused(message) for name, message in given.items()}
found = {name: (written({**message, "distortion_model": ""}), errors[name]) for name, message in given.items()}
for name, (values, error) in found.items():
    print("mcap-ros2-support", version("mcap-ros2-support"), name, values, "rosbags:", error)
same = [values for values, _ in found.values()] == [[0.0] * 9, [*CAMERA[:8], 0.0], CAMERA]
same = same and all(errors.values()) and len(given["eight"]["k"]) == 9
sys.exit(0 if same else "changed: wrong names and lengths are refused")
PYTHON
