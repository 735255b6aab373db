#!/usr/bin/env bash
# q and -q are the same rotation, and messages, files and filters hold either. transforms3d 0.4.2 (quat2axangle),
# numpy-quaternion 2024.0.13 (as_rotation_vector) and ahrs 0.4.0 (Quaternion.to_axang) turn the one with w < 0 into a rotation
# vector the LONG way round, up to a whole turn: right as a rotation, wrong as an error, an angular velocity or anything that
# is divided, averaged or compared. pytransform3d 3.17.0 has it short there, and its quaternion_slerp goes the long way unless
# told shortest_path=True. SciPy 1.17.1, GTSAM, pycolmap and pypose have it short.
# Seen here, 0.1 rad about z as q and as -q: 0.1 and 6.18 rad (354 degrees) with the first three, by sign about -z; half way
# from no rotation to -q SciPy's Slerp and numpy-quaternion are at 0.05 rad, pytransform3d at 3.09 rad: about-face.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q transforms3d==0.4.2 numpy-quaternion==2024.0.13 ahrs==0.4.0 pytransform3d==3.17.0 \
    scipy==1.17.1 numpy==2.4.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import ahrs
import numpy as np
import pytransform3d.rotations as pytransform3d
import quaternion
import transforms3d
from scipy.spatial.transform import Rotation, Slerp

ANGLE = 0.1
q = np.array([np.cos(ANGLE / 2), 0, 0, np.sin(ANGLE / 2)])  # w x y z
none = np.array([1.0, 0, 0, 0])
angles = {
    "transforms3d": lambda q: transforms3d.quaternions.quat2axangle(q)[1],
    "numpy-quaternion": lambda q: np.linalg.norm(quaternion.as_rotation_vector(quaternion.quaternion(*q))),
    "ahrs": lambda q: ahrs.Quaternion(q).to_axang()[1],
    "pytransform3d": lambda q: pytransform3d.axis_angle_from_quaternion(q)[3],
    "scipy": lambda q: Rotation.from_quat(q, scalar_first=True).magnitude(),
}
seen = {name: [float(angle(sign * q)) for sign in (1, -1)] for name, angle in angles.items()}
ends = Rotation.from_quat([none, -q], scalar_first=True)
half = {
    "scipy": Slerp([0, 1], ends)(0.5),
    "numpy-quaternion": Rotation.from_quat(
        quaternion.as_float_array(quaternion.slerp_evaluate(quaternion.one, quaternion.quaternion(*-q), 0.5)),
        scalar_first=True,
    ),
    "pytransform3d": Rotation.from_quat(pytransform3d.quaternion_slerp(none, -q, 0.5), scalar_first=True),
}
half = {name: rotation.magnitude() for name, rotation in half.items()}
for name, pair in seen.items():
    print(name, version(name), "angle of q, of -q:", np.round(pair, 4), "half way to -q:", half.get(name))
long = 2 * np.pi - ANGLE
same = all(
    np.allclose(pair, [ANGLE, ANGLE if name in ("pytransform3d", "scipy") else long]) for name, pair in seen.items()
)
wanted = {"scipy": ANGLE / 2, "numpy-quaternion": ANGLE / 2, "pytransform3d": long / 2}
same = same and all(np.isclose(half[name], angle) for name, angle in wanted.items())
sys.exit(0 if same else "changed: -q turns by the same angle as q")
PYTHON
