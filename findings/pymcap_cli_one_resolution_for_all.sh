#!/usr/bin/env bash
# pymcap-cli 0.34.0, roscompress (mcap-codec-support 0.17.0, pureini 0.10.0): makes MCAP recordings of ROS 2 smaller; unless told
# otherwise clouds are encoded by Cloudini with a resolution of 0.01, a centimetre one thinks. That raster is laid over EVERY
# float32 of a point, whatever it means:
# 1. `rgb`, a colour in the bits of a float of the order of 1e-38, is 0: all points are black.
# 2. `time`, seconds within the scan, comes in steps of 10 ms: at 20 m/s points are de-skewed by up to 10 cm wrong, and all
#    points of a column differ from those of the next one by nothing or by 10 ms.
# 3. a reflectance of 0 to 1 has 101 values left, and a normal is in steps of 0.01 an axis.
# Nothing is said; x, y and z are within half a centimetre as promised, integers and doubles exact. --pc-encoding lossless
# keeps everything.
# Seen here, 2,000 points: colour 0xc86414 -> 0, 2,000 times in 0.1 s -> 11, 2,000 intensities of 0 to 1 -> 101.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q pymcap-cli==0.34.0 mcap-codec-support==0.17.0 pureini==0.10.0 pointcloud2==0.6.0 \
    rosbags==0.11.9 mcap==1.6.0 mcap-ros2-support==0.6.0 numpy==2.4.6
cd "$tmp"
PATH="$tmp/venv/bin:$PATH" python - <<'PYTHON'
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from mcap_ros2.reader import read_ros2_messages
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

COUNT, COLOUR = 2000, 0x00C86414
CODES = {"f4": 7, "u2": 4, "f8": 8}
LAYOUT = np.dtype(
    [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("intensity", "<f4"),
        ("rgb", "<f4"),
        ("ring", "<u2"),
        ("time", "<f4"),
        ("stamp", "<f8"),
    ]
)
rng, store = np.random.default_rng(0), get_typestore(Stores.ROS2_HUMBLE)
points = np.zeros(COUNT, LAYOUT)
for axis in "xyz":
    points[axis] = rng.uniform(-50, 50, COUNT)
points["intensity"], points["ring"] = rng.uniform(0, 1, COUNT), np.arange(COUNT) % 32
points["rgb"] = np.full(COUNT, COLOUR, "<u4").view("<f4")
points["time"] = np.linspace(0, 0.1, COUNT, endpoint=False)
points["stamp"] = 1.7e9 + points["time"].astype(float)


def make(name, *values):
    return store.types[name](*values)


def field(name):
    kind, offset = LAYOUT.fields[name][:2]
    return make("sensor_msgs/msg/PointField", name, offset, CODES[kind.str[1:]], 1)


size, name = LAYOUT.itemsize, "sensor_msgs/msg/PointCloud2"
header = make("std_msgs/msg/Header", make("builtin_interfaces/msg/Time", 1_700_000_000, 0), "lidar")
fields = [field(one) for one in LAYOUT.names]
cloud = make(name, header, 1, COUNT, fields, False, size, size * COUNT, points.view(np.uint8).ravel(), True)
with Writer(Path("in"), version=8, storage_plugin=StoragePlugin.MCAP) as writer:
    writer.write(
        writer.add_connection("/points", name, typestore=store), 1_700_000_000 * 10**9, store.serialize_cdr(cloud, name)
    )


def back(*options):
    """The points, compressed and decompressed again."""
    for command in (
        ["roscompress", "in/in.mcap", "-o", "small.mcap", "--force", "--image-format", "none", *options],
        ["rosdecompress", "small.mcap", "-o", "out.mcap", "--force"],
    ):
        subprocess.run(["pymcap-cli", *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (found,) = (one.ros_msg for one in read_ros2_messages("out.mcap"))
    return np.frombuffer(bytes(found.data), LAYOUT)


default, exact = back(), back("--pc-encoding", "lossless")
colours = {hex(int(colour)) for colour in np.ascontiguousarray(default["rgb"]).view("<u4")}
left = {name: len(np.unique(default[name])) for name in ("time", "intensity", "ring", "stamp")}
off = max(float(np.abs(default[axis] - points[axis]).max()) for axis in "xyz")
print("pymcap-cli", version("pymcap-cli"), "colours:", colours, "different values:", left, "x, y, z off by up to", round(off, 4),
      "lossless:", exact.tobytes() == points.tobytes())  # fmt: skip
same = colours == {"0x0"} and left == {"time": 11, "intensity": 101, "ring": 32, "stamp": 2000} and off < 0.0051
sys.exit(0 if same and exact.tobytes() == points.tobytes() else "changed: the resolution is one of coordinates")
PYTHON
