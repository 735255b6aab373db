#!/usr/bin/env bash
# yostlabs-math 2026.3.11, of the maker of the 3-Space IMUs: slerp(a, b, t), by which orientations are resampled to the stamps of
# scans or images, has sin(1 - t) * theta where sin((1 - t) * theta) is meant: turns between two samples are not even. And
# where the signs of the quaternions differ, as a sensor's may from one sample to the next, b is negated and the angle is still
# that of the long way. At t = 0 and t = 1 it is right, half way nearly.
# Seen here, t 0.1, 0.5 and 0.9 between 0 and 20 degrees: 2.3, 10.2, 18.0; with b negated, the same orientation, 2.2, 8.2, 12.1;
# between 0 and 170 degrees 14.3, 82.3, 153.0 (17, 85, 153 are even).
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q yostlabs-math==2026.3.11
"$tmp/venv/bin/python" - <<'PYTHON'
import math
import sys
from importlib.metadata import version

from yostlabs.math.quaternion import quat_from_axis_angle, slerp


def yaws(degrees, sign):
    """Degrees at a tenth, half and nine tenths of the way from 0."""
    start, end = (quat_from_axis_angle([0, 0, 1], math.radians(angle)) for angle in (0, degrees))
    between = [slerp(start, [sign * value for value in end], share) for share in (0.1, 0.5, 0.9)]
    return [round(math.degrees(2 * math.atan2(one[2], one[3])), 1) for one in between]


found = [yaws(20, 1), yaws(20, -1), yaws(170, 1)]
print("yostlabs-math", version("yostlabs-math"), "to 20 degrees:", found[0], "with the other sign:", found[1], "to 170:", found[2])
same = found == [[2.3, 10.2, 18.0], [2.2, 8.2, 12.1], [14.3, 82.3, 153.0]]
sys.exit(0 if same else "changed: turns are even")
PYTHON
