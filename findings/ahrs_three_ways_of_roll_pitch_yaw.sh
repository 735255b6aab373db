#!/usr/bin/env bash
# ahrs 0.4.0 (numpy 2.4.6), attitude estimation in Python:
# 1. Three ways to read "roll, pitch, yaw": Quaternion(rpy=...) and its to_angles() are the usual one, Rz(yaw) Ry(pitch)
#    Rx(roll). DCM(rpy=...) turns by the FIRST number about z and by the last about x, though its documentation lists
#    "roll->pitch->yaw angles" (an example adds that they are given "in reverse order"). DCM.to_rpy() gives the angles of the
#    INVERSE rotation, so that of a matrix it neither undoes DCM(rpy=...) nor agrees with to_angles() of its quaternion.
# 2. angular_distance of two rotations is sqrt(2) times the angle between them (the norm of the whole logarithm matrix; of its
#    vector, the documentation says), 41 % too much; qad, of quaternions, is the angle.
# Seen here: of (0.1, 0.2, 0.3) DCM(rpy=...) is SciPy's from_euler("ZYX", (0.1, 0.2, 0.3)), whose yaw is 0.1; to_rpy() of the
# rotation with roll 0.1, pitch 0.2, yaw 0.3 is (-0.038, -0.220, -0.286); rotations by 1 rad are 1.414 apart, qad says 1.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q ahrs==0.4.0 numpy==2.4.6 scipy==1.17.1
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from ahrs import DCM, Quaternion
from ahrs.utils.metrics import angular_distance, qad
from scipy.spatial.transform import Rotation

angles = np.array([0.1, 0.2, 0.3])  # roll, pitch, yaw
usual, reversed_ = (Rotation.from_euler("ZYX", order) for order in (angles[::-1], angles))
quaternion, matrix = Quaternion(rpy=angles), DCM(rpy=angles)
read = DCM(usual.as_matrix()).to_rpy()
turn = Rotation.from_rotvec([0, 0, 1.0])
distance = angular_distance(np.eye(3), turn.as_matrix())
angle = qad(np.array([1.0, 0, 0, 0]), turn.as_quat(scalar_first=True))
print("ahrs", version("ahrs"), "DCM(rpy=...) less its quaternion's matrix:",
      np.abs(matrix - quaternion.to_DCM()).max().round(3), "to_rpy of the usual rotation:", read.round(3),
      "1 rad: angular_distance", round(float(distance), 4), "qad", round(float(angle), 4))  # fmt: skip
same = np.allclose(quaternion.to_DCM(), usual.as_matrix()) and np.allclose(quaternion.to_angles(), angles)
same = same and np.allclose(matrix, reversed_.as_matrix()) and not np.allclose(matrix, usual.as_matrix())
same = same and np.allclose(read, usual.inv().as_euler("ZYX")[::-1])
same = same and np.isclose(distance, np.sqrt(2)) and np.isclose(angle, 1)
sys.exit(0 if same else "changed: roll, pitch and yaw are one thing, or the distance is the angle")
PYTHON
