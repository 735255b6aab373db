#!/usr/bin/env bash
# rosbags 0.11.9, serialize_cdr (and so whatever it writes): an array is copied by its BYTES, whatever its type is, as long as
# the size of its elements fits the field. Whole numbers for a float64 field, np.array([500, 0, 320, ...]) for K of a camera
# or zeros and ones for a covariance, are numpy's int64: each is written by its bits and is some 1e-321, which prints as
# nearly 0 and is a valid number. float32 fields and int32 are alike (ranges of a LaserScan: 1e-45). Another size raises, and
# so does a list, so that one has been told about types when it happens.
# Seen here: K = (500, 0, 320, 0, 500, 240, 0, 0, 1) reads (2.5e-321, 0, 1.6e-321, ...), ranges of 1, 2, 3 m 1e-45 m, ...
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q rosbags==0.11.9 numpy==2.4.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from rosbags.typesys import Stores, get_typestore

store = get_typestore(Stores.ROS2_JAZZY)
Info, Scan, Header, Time, Region = (
    store.types[name]
    for name in ("sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/LaserScan", "std_msgs/msg/Header")
    + ("builtin_interfaces/msg/Time", "sensor_msgs/msg/RegionOfInterest")
)
header, region = Header(Time(0, 0), ""), Region(0, 0, 0, 0, False)


def through(message):
    return store.deserialize_cdr(store.serialize_cdr(message, message.__msgtype__), message.__msgtype__)


def camera(k):
    return through(Info(header, 480, 640, "plumb_bob", np.zeros(5), k, np.zeros(9), np.zeros(12), 0, 0, region)).k


def scan(ranges):
    return through(Scan(header, 0.0, 1.0, 0.1, 0.0, 0.0, 0.0, 10.0, ranges, np.zeros(0, np.float32))).ranges


K = np.array([500, 0, 320, 0, 500, 240, 0, 0, 1])
whole, ranges = camera(K), scan(np.array([1, 2, 3], np.int32))
print("rosbags", version("rosbags"), K.dtype, "K:", whole, "int32 ranges:", ranges)
refused = 0
for wrong in (lambda: camera(K.astype(np.float32)), lambda: camera(K.tolist()), lambda: scan(np.array([1.0, 2.0, 3.0]))):
    try:
        wrong()
    except Exception as error:
        refused += 1
        print("raises", type(error).__name__)
same = 0 < whole.max() < 1e-300 and 0 < ranges.max() < 1e-40 and refused == 3 and (camera(K.astype(float)) == K).all()
sys.exit(0 if same else "changed: whole numbers are written as numbers, or refused")
PYTHON
