#!/usr/bin/env bash
# quaternions 0.6 (rotations of robots): from_euler turns about the axes of the body, one after another (intrinsic), and get_euler
# gives angles about fixed axes (extrinsic); neither says so. With the same default, x y z, roll, pitch and yaw of a pose do not come
# back, unless only one of them is not zero. from_euler for y x y gives no unit quaternion. distance, "the angular distance",
# is the length of the difference: 2 for the two signs of one rotation, 0.49 for 1 rad.
# Seen here: 20, 10, 90 degrees come back as 10.0, -20.0 and 90.0, and 0, 0, 40 as they were; y x y of 0.3, 0.5, -0.7: norm 1.016.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q quaternions==0.6
"$tmp/venv/bin/python" - <<'PYTHON'
import math
import sys
from importlib.metadata import version

from quaternions import Quaternion


def returned(*degrees):
    """Euler angles that went through a quaternion."""
    angles = Quaternion.from_euler([math.radians(value) for value in degrees]).get_euler()
    return [round(math.degrees(value), 1) + 0.0 for value in angles]


poses = [returned(0, 0, 40), returned(20, 10, 90)]
norm = round(Quaternion.from_euler([0.3, 0.5, -0.7], ["y", "x", "y"]).norm(), 3)
turned = Quaternion.from_axis_angle([0, 0, 1], 1.0)
distances = [round(turned.distance(other), 2) for other in (turned, -turned, Quaternion(1, 0, 0, 0))]
print("quaternions", version("quaternions"), "(0, 0, 40), (20, 10, 90) come back as:", poses, "norm:", norm, "distances:", distances)
same = poses == [[0.0, 0.0, 40.0], [10.0, -20.0, 90.0]] and norm == 1.016 and distances == [0.0, 2.0, 0.49]
sys.exit(0 if same else "changed: Euler angles return")
PYTHON
