#!/usr/bin/env bash
# pymmWave 1.1.2 (scipy 1.15.3), radars of TI: the pose that is followed by Pose.move, and an ImuVelocityData, which has the
# rates as drolldpitchdyaw, name and order roll, pitch, yaw:
# 1. The FIRST rate is added to yaw and the third to roll. A vehicle that turns left rolls over, by get(), whose order is x,
#    y, z, roll, pitch, yaw. The way goes on as if it had turned, since roll is then used as the turn about z: positions are
#    right, and whoever reads yaw for the heading has 0.
# 2. ImuVelocityData.get(), the rotation, takes the first one as the turn about z, too: a rate of roll turns x to y.
# 3. DopplerPointCloud.translate_rotate moves first and then turns the moved points about the origin, so that a radar's own
#    place on the vehicle is turned with it.
# Seen here, 90 degrees/s about z for a second: roll 90, yaw 0 degrees; then 1 m/s forwards: y = 1; a rate of roll of 90
# degrees/s: its rotation leads (1, 0, 0) to (0, 1, 0); a point at (1, 0, 0), moved by (10, 0, 0) and turned by 90 degrees:
# (0, 11, 0).
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q numpy==2.2.6 scipy==1.15.3 pyserial==3.5
"$tmp/venv/bin/pip" install -q --no-deps pymmWave==1.1.2
"$tmp/venv/bin/python" -W ignore - <<'PYTHON'
import math
import sys
from importlib.metadata import version

import numpy as np
from pymmWave.data_model import DopplerPointCloud, ImuVelocityData, Pose
from scipy.spatial.transform import Rotation

QUARTER = math.radians(90)
pose = Pose()
pose.move(ImuVelocityData((0, 0, 0), (0, 0, QUARTER)), 1.0)
roll, pitch, yaw = (round(math.degrees(angle), 1) for angle in pose.get()[3:])
pose.move(ImuVelocityData((1, 0, 0), (0, 0, 0)), 1.0)
place = np.round(pose.get()[:3], 3).tolist()
rolled = np.round(ImuVelocityData((0, 0, 0), (QUARTER, 0, 0)).get().apply([1, 0, 0]), 3).ravel().tolist()
cloud = DopplerPointCloud(np.array([[1.0, 0, 0, 0]]))
cloud.translate_rotate((10, 0, 0), Rotation.from_euler("z", QUARTER))
moved = np.round(cloud.get()[0, :3], 3).tolist()
print("pymmWave", version("pymmWave"), "a turn about z, roll, pitch, yaw:", (roll, pitch, yaw), "and 1 m on:", place,
      "a roll of x:", rolled, "moved and turned:", moved)  # fmt: skip
same = (roll, pitch, yaw) == (90, 0, 0) and place == [0, 1, 0] and rolled == [0, 1, 0] and moved == [0, 11, 0]
sys.exit(0 if same else "changed: a turn about z is yaw")
PYTHON
