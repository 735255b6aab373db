#!/usr/bin/env bash
# ros2_numpy 0.0.5, numpify and msgify, what `pip install ros2_numpy` gives, with transformations 2026.1.18:
# 1. `intensity` of a PointCloud2 is no intensity: the place of the field in the list of fields (3) is taken for its byte
#    in the point (12), so that bytes 3 and 4, the end of x and the beginning of y, are read as a uint16; `rgb` likewise.
#    It is so for a float32 intensity, as drivers send it, and for the uint16 that its own msgify writes.
# 2. A Pose without rotation (x y z w = 0 0 0 1) is the matrix of half a turn about z: transformations has w first, the
#    message has it last. msgify of the identity matrix is half a turn about x. Poses come back through both as they went,
#    so that a test of the pair sees nothing.
# Both come without a word, and both look plausible on a robot: a flat intensity, a pose at the right place.
# Seen here: intensities 12 and 200 of (10, 1, -1) and (20, 2, -2) read 65 and 65; R = diag(-1, -1, 1); (1, 0, 0, 0).
# Exit status: 0 if this is still so, 1 if it changed. Needs Python 3.10 or 3.11 (it wants numpy 1.24.2).
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q ros2_numpy==0.0.5 transformations==2026.1.18 "ros-jazzy-rclpy[fastrtps]==7.1.6" \
    ros-jazzy-sensor-msgs==5.3.6 ros-jazzy-nav-msgs==5.3.6 ros-jazzy-geometry-msgs==5.3.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import rclpy  # its wheels make the message packages importable
import numpy as np
import ros2_numpy
from geometry_msgs.msg import Pose, Quaternion
from sensor_msgs.msg import PointCloud2, PointField

intensities = []
for kind, code in ((np.float32, PointField.FLOAT32), (np.uint16, PointField.UINT16)):
    points = np.array([(10, 1, -1, 12), (20, 2, -2, 200)], [(axis, np.float32) for axis in "xyz"] + [("intensity", kind)])
    fields = [
        PointField(name=name, offset=4 * i, datatype=code if name == "intensity" else PointField.FLOAT32, count=1)
        for i, name in enumerate(points.dtype.names)
    ]
    step = points.dtype.itemsize
    cloud = PointCloud2(height=1, width=2, fields=fields, point_step=step, row_step=2 * step, data=points.tobytes())
    intensities.append(ros2_numpy.numpify(cloud)["intensity"].ravel().tolist())
pose = Pose(orientation=Quaternion(x=0.0, y=0.0, z=0.0, w=1.0))
matrix, q = ros2_numpy.numpify(pose), ros2_numpy.msgify(Pose, np.eye(4)).orientation
back = ros2_numpy.msgify(Pose, matrix).orientation
print("ros2_numpy", version("ros2_numpy"), "intensity of 12, 200:", intensities)
print("a pose without rotation:", matrix.tolist(), "identity as x y z w:", [q.x, q.y, q.z, q.w], "both:", back)
same = intensities == [[65, 65], [65, 65]] and np.allclose(matrix, np.diag([-1, -1, 1, 1]))
same = same and np.allclose(np.abs([q.x, q.y, q.z, q.w]), [1, 0, 0, 0]) and abs(back.w) == 1
sys.exit(0 if same else "changed: intensities or rotations are right")
PYTHON
