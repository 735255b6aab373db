#!/usr/bin/env bash
# qsp-orientation 0.1.1 estimates orientations from an IMU:
# 1. complementary_filter(q_gyro, accel, alpha) goes towards what the accelerometer says, and that has yaw 0: so the heading goes to 0,
#    too, whatever the gyroscope says. With alpha 0.98 at 100 Hz a robot that turned has lost its turn after two seconds. Roll
#    and pitch are right.
# 2. mahony_update(..., mag=) compares the magnetometer with a field that is level. The earth's points into the ground, by 60 to
#    70 degrees in Europe and North America: the estimate leans to that until it is as far from gravity. Without mag it is right.
# 3. mahony_update with no acceleration (free fall, a packet of zeros) leaves out the gyroscope, too; madgwick_update does not.
# Seen here, at rest, heading 90 degrees: 73.5 after 0.1 s, 32.8 after 0.5 s, 0.2 after 3 s; level, the field 65 degrees down: roll
# 32.5 degrees; a second at 90 degrees/s without acceleration: 0.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q qsp-orientation==0.1.1 numpy==2.4.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from qsp.orientation import (
    complementary_filter,
    euler_to_quaternion,
    integrate_gyro,
    madgwick_update,
    mahony_update,
    quaternion_to_euler,
)

STEP, REST, UP = 0.01, np.zeros(3), np.array([0, 0, 9.81])


def angles(quaternion):
    return np.degrees(quaternion_to_euler(quaternion)).round(1) + 0.0


headings, estimate = [], euler_to_quaternion(0, 0, np.pi / 2)
for i in range(1, 301):
    estimate = complementary_filter(integrate_gyro(estimate, REST, STEP), UP, 0.98)
    if i in (10, 50, 300):
        headings.append(angles(estimate)[2].item())
dip = np.deg2rad(65)
fields = {"level": None, "with the field": np.array([0, np.cos(dip), -np.sin(dip)])}
leans = {}
for name, field in fields.items():
    estimate, error = euler_to_quaternion(0, 0, 0), None
    for _ in range(3000):
        estimate, error = mahony_update(estimate, REST, UP, dt=STEP, integral_error=error, mag=field)
    leans[name] = angles(estimate)[0].item()
falling = [euler_to_quaternion(0, 0, 0)] * 2
for _ in range(100):
    rate = np.array([0, 0, np.pi / 2])
    falling = [mahony_update(falling[0], rate, REST, dt=STEP)[0], madgwick_update(falling[1], rate, REST, dt=STEP)]
turns = [angles(one)[2].item() for one in falling]
print("qsp-orientation", version("qsp-orientation"), "heading after 0.1, 0.5, 3 s:", headings, "roll:", leans, "turned in free fall:", turns)
same = headings == [73.5, 32.8, 0.2] and leans["level"] == 0 and 32 < leans["with the field"] < 33
sys.exit(0 if same and turns[0] == 0 and 89 < turns[1] < 91 else "changed: headings stay")
PYTHON
