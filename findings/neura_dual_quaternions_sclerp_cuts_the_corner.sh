#!/usr/bin/env bash
# neura-dual-quaternions 0.0.4, of a maker of robots: DualQuaternion.sclerp, by its name the screw motion between two poses, is
# linear in the position and slerp in the rotation. Poses asked for along a turn, to place a scan between two stamps, lie on
# the chord and not on the arc; d1 * (d1.inverse() * d2).power(s), of the same class, is the screw. Its Quaternion.slerp goes the
# long way round where the signs of the quaternions differ, though both are the same rotation, and sclerp with it.
# Seen here, half of a quarter circle of 10 m about the origin: sclerp (5, 5), power (7.07, 7.07), 2.93 m aside;
# half way from 0 to 20 degrees with the sign of the second pose changed: 190 degrees.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q neura-dual-quaternions==0.0.4 numpy==2.2.6
"$tmp/venv/bin/python" - <<'PYTHON'
import math
import sys
from importlib.metadata import version

import numpy as np
from neura_dual_quaternions import DualQuaternion


def pose(degrees, position):
    """A pose turned about z."""
    angle = math.radians(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    matrix[:3, 3] = position
    return DualQuaternion.fromTransformation(matrix)


def heading(dual):
    """Degrees about z, from 0 to 360."""
    matrix = dual.asTransformation()
    return round(math.degrees(math.atan2(matrix[1, 0], matrix[0, 0])) % 360, 2)


start, end = pose(0, [10, 0, 0]), pose(90, [0, 10, 0])
by_sclerp, by_power = DualQuaternion.sclerp(start, end, 0.5), start * (start.inverse() * end).power(0.5)
places = [np.round(one.asTransformation()[:2, 3], 2).tolist() for one in (by_sclerp, by_power)]
still, turned = pose(0, [0, 0, 0]), pose(20, [0, 0, 0])
short = heading(DualQuaternion.sclerp(still, turned, 0.5))
other_sign = heading(DualQuaternion.sclerp(still, (-1.0) * turned, 0.5))
print("neura-dual-quaternions", version("neura-dual-quaternions"), "half of the arc by sclerp:", places[0], "by power:", places[1],
      "headings:", [heading(by_sclerp), heading(by_power)], "half of 20 degrees:", short, "with the other sign:", other_sign)
same = places == [[5.0, 5.0], [7.07, 7.07]] and (short, other_sign) == (10.0, 190.0)
sys.exit(0 if same else "changed: sclerp is a screw motion")
PYTHON
