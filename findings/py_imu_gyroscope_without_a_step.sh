#!/usr/bin/env bash
# py-imu 0.1.0, orientation from an IMU by Madgwick's filter:
# 1. Madgwick(frequency=100).update(gyr, acc), without dt, never looks at the gyroscope: each call begins anew with the
#    direction of gravity. frequency and dt of the constructor, which stand for the step by its text, are stored and not read
#    again. Roll and pitch are right at rest, so that it looks as if it worked; yaw is 0 whatever the robot does, and in a
#    bend or while it brakes it leans as the accelerometer does.
# 2. gain=, which its text and its README's example give, is not read either; gain_imu= and gain_marg= are.
# 3. vector_angle2q, a turn about an axis, is a rotation for axes of length 1 only: the length is taken off a copy that is not
#    used.
# Seen here, a second of 90 degrees/s about z at 100 Hz: yaw 0, with dt=0.01 in each call 90 degrees; gain=0.5 leaves gain_imu
# at 0.033; 90 degrees about (0, 0, 2) is (0.707, 0, 0, 1.414).
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q numpy==2.2.6 loguru==0.7.3
"$tmp/venv/bin/pip" install -q --no-deps py-imu==0.1.0
"$tmp/venv/bin/python" -W ignore - <<'PYTHON'
import math
import sys
from importlib.metadata import version

from loguru import logger

logger.remove()
from py_imu.fusion.madgwick import Madgwick
from py_imu.fusion.quaternion import Vector3D
from py_imu.fusion.utilities import q2rpy, vector_angle2q

RATE = math.radians(90)


def yaw(**step):
    """Degrees after a second of turning on the spot."""
    estimate = Madgwick(frequency=100)
    estimate.update(Vector3D(0, 0, 0), Vector3D(0, 0, 9.81), **step)
    for _ in range(100):
        turned = estimate.update(Vector3D(0, 0, RATE), Vector3D(0, 0, 9.81), **step)
    return round(math.degrees(q2rpy(turned).z), 1)


without, given = yaw(), yaw(dt=0.01)
gain = Madgwick(frequency=100, gain=0.5).gain_imu
turn = vector_angle2q(Vector3D(0, 0, 2), RATE)
values = [round(value, 3) for value in (turn.w, turn.x, turn.y, turn.z)]
print("py-imu", version("py-imu"), "yaw without dt:", without, "with dt:", given, "gain:", gain, "about (0, 0, 2):", values)
same = without == 0 and abs(given - 90) < 1 and gain == 0.033 and values == [0.707, 0, 0, 1.414]
sys.exit(0 if same else "changed: the gyroscope is looked at")
PYTHON
