#!/usr/bin/env bash
# pyquaternion 0.9.9 (nuScenes' devkit gives its poses and boxes in it), Quaternion.yaw_pitch_roll: its documentation says
# "intrinsic Tait-Bryan angles following the z-y'-x'' convention", which is what ROS, SciPy's "ZYX" and everybody
# with a vehicle calls yaw, pitch and roll. The angles are those of the other order, R = Rx(roll) Ry(pitch) Rz(yaw).
# All is well as long as the vehicle is level, or looks along x: with a yaw of 90 degrees roll is called pitch and pitch is
# called minus roll, and on a slope the yaw is off, too. So slopes, gravity and ground planes are wrong by the way one drives.
# Seen here, yaw, pitch and roll in degrees: (90, 0, 10) reads (90, 10, 0); (90, 10, 0) reads (90, 0, -10); (45, 5, 5) reads
# (44.78, 7.07, 0.01); (0, 0, 10) and (90, 0, 0) read as they are.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q pyquaternion==0.9.9 scipy==1.17.1 numpy==2.4.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from pyquaternion import Quaternion
from scipy.spatial.transform import Rotation

wanted = {(90, 0, 10): (90, 10, 0), (90, 10, 0): (90, 0, -10), (45, 5, 5): (44.7807, 7.0666, 0.0135),
          (0, 0, 10): (0, 0, 10), (90, 0, 0): (90, 0, 0)}  # fmt: skip
same = True
for angles, other in wanted.items():
    turn = Rotation.from_euler("ZYX", angles, degrees=True)
    quaternion = Quaternion(turn.as_quat(scalar_first=True))
    assert np.allclose(quaternion.rotation_matrix, turn.as_matrix())
    read = np.degrees(quaternion.yaw_pitch_roll)
    scipys = turn.as_euler("ZYX", degrees=True)
    print(version("pyquaternion"), "yaw, pitch, roll", angles, "read", read.round(2) + 0.0, "SciPy", scipys.round(2) + 0.0)
    same = same and np.allclose(read, other, atol=1e-3) and np.allclose(scipys, angles)
sys.exit(0 if same else "changed: the angles are those of z-y'-x''")
PYTHON
