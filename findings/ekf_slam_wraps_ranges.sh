#!/usr/bin/env bash
# ekf_slam 0.0.2, 2D EKF-SLAM with landmarks that are told apart:
# 1. The difference of a measurement and what was expected is wrapped to -pi to pi, the RANGE in metres, too. Where odometry is
#    off by more than 3.14 m the correction goes the other way, with full weight; below that it is right.
# 2. Movements go in the world's axes: predict((1, 0)), one metre ahead, is one metre along x whatever the robot's heading, and the
#    angle of a movement is added to the heading all the same. Bearings are taken for the world's as well, while the
#    Jacobian has the heading in it.
# Seen here, a landmark at 10 m, seen at 8 m: the robot is at x = 2.0; seen at 6 m: x = -2.3 (it is at 4). Heading 90 degrees, three
# metres ahead: (3, 0).
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q ekf_slam==0.0.2 numpy==2.2.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from ekf_slam import KnownCorrespondence

SENSOR, ODOMETRY = np.diag([0.01, 0.001]), np.diag([25.0, 0.01, 1e-4])


def seen_at(metres):
    """Where the robot is, after a landmark 10 m ahead is seen at that range and odometry knows nothing."""
    slam = KnownCorrespondence(np.zeros(3), 1, SENSOR, ODOMETRY)
    slam.update(np.array([[10.0, 0, 0]]))
    slam.predict(np.zeros(2))
    slam.update(np.array([[float(metres), 0, 0]]))
    return slam.robot_pos().round(1).tolist()


near, far = seen_at(8), seen_at(6)
slam = KnownCorrespondence(np.array([0, 0, np.pi / 2]), 1, SENSOR, ODOMETRY)
for _ in range(3):
    slam.predict(np.array([1.0, 0]))
ahead = slam.robot_pos().round(6).tolist()
print("ekf_slam", version("ekf_slam"), "seen at 8 m:", near, "at 6 m:", far, "three metres ahead, heading 90 degrees:", ahead)
same = near == [2, 0] and far == [-2.3, 0] and ahead == [3, 0]
sys.exit(0 if same else "changed: ranges are not wrapped")
PYTHON
