#!/usr/bin/env bash
# foxglove-schemas-protobuf 0.4.0, PackedElementField, and ROS's sensor_msgs/PointField (rosbags 0.11.9) describe the fields
# of a packed point cloud the same way: name, offset and a number for the type, 1 to 8. The floats have the same numbers, 7
# and 8, so a bag converted by passing the number on looks right. The whole numbers do not: signed and unsigned are swapped at
# each width. A uint8 intensity above 127, a uint16 ring or label above 32767, uint32 times above 2^31 ns turn negative.
# Seen here: ROS's UINT8 is 2, which is INT8 there; intensities 10, 127, 128, 255 become 10, 127, -128, -1.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q foxglove-schemas-protobuf==0.4.0 rosbags==0.11.9 numpy==2.4.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from foxglove_schemas_protobuf.PackedElementField_pb2 import PackedElementField
from rosbags.typesys import Stores, get_typestore

ros_field = get_typestore(Stores.ROS2_JAZZY).types["sensor_msgs/msg/PointField"]
names = [f"{kind}{bits}" for bits in (8, 16, 32) for kind in ("UINT", "INT")] + ["FLOAT32", "FLOAT64"]
there = {getattr(ros_field, name): PackedElementField.NumericType.Name(getattr(ros_field, name)) for name in names}
means = {name: there[getattr(ros_field, name)] for name in names}
field = PackedElementField(name="intensity", offset=0, type=ros_field.UINT8)  # a valid message, with ROS's number
kind = np.dtype(PackedElementField.NumericType.Name(field.type).lower())
read = np.array([10, 127, 128, 255], np.uint8).view(kind).tolist()
print("foxglove-schemas-protobuf", version("foxglove-schemas-protobuf"), "reads ROS's numbers as", means, "intensities", read)
swapped = all(means[f"UINT{bits}"] == f"INT{bits}" and means[f"INT{bits}"] == f"UINT{bits}" for bits in (8, 16, 32))
same = swapped and means["FLOAT32"] == "FLOAT32" and means["FLOAT64"] == "FLOAT64" and read == [10, 127, -128, -1]
sys.exit(0 if same else "changed: the numbers mean the same")
PYTHON
