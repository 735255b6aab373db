#!/usr/bin/env bash
# GTSAM 4.3.0, Rot3.Quaternion, and pycolmap 4.2.1, Rotation3d and the reader of COLMAP's images.txt, take a quaternion as it
# is: one of length 0.99985, which is what (0, 0, 0.707, 0.707) of a hand-written launch file or calibration is, becomes a
# matrix that is no rotation, and neither says so. It makes lengths shorter, and its inverse does not undo it. SciPy 1.17.1
# and transforms3d 0.4.2 (quat2mat) normalise what they are given.
# Seen here: a point at 50 m on the x axis comes to 49.985 m along y and 1.5 cm beside it with both, to 50 m with the two
# others; there and back again it is at 49.970 m (GTSAM) and 3.0 cm beside its place (pycolmap).
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q gtsam==4.3.0 pycolmap==4.2.1 transforms3d==0.4.2 scipy==1.17.1 numpy==2.4.6
"$tmp/venv/bin/python" - "$tmp" <<'PYTHON'
import sys
from pathlib import Path

import gtsam
import numpy as np
import pycolmap
from scipy.spatial.transform import Rotation
from transforms3d.quaternions import quat2mat

far, half = np.array([50.0, 0, 0]), 0.707
model = Path(sys.argv[1])
(model / "cameras.txt").write_text("1 PINHOLE 640 480 400 400 320 240\n")
(model / "images.txt").write_text(f"1 {half} 0 0 {half} 0 0 0 1 view.png\n\n")  # w x y z first, then the translation
(model / "points3D.txt").write_text("")
read = pycolmap.Reconstruction(model).images[1].cam_from_world().rotation
turn = gtsam.Rot3.Quaternion(half, 0, 0, half)
loose = {"gtsam": turn.rotate(far), "pycolmap": pycolmap.Rotation3d(np.array([0, 0, half, half])) * far, "images.txt": read * far}
back = {"gtsam": turn.inverse().rotate(turn.rotate(far)), "images.txt": read.inverse() * (read * far)}
strict = {"scipy": Rotation.from_quat([0, 0, half, half]).apply(far), "transforms3d": quat2mat([half, 0, 0, half]) @ far}
for title, group in (("turned by 90 degrees", loose | strict), ("and back", back)):
    print(title, {name: point.round(4).tolist() for name, point in group.items()})
same = all(np.allclose(point, [0.0151, 49.9849, 0], atol=1e-4) for point in loose.values())
same = same and all(np.allclose(point, [0, 50, 0]) for point in strict.values())
same = same and np.allclose(back["gtsam"], [49.9698, 0, 0], atol=1e-4)
sys.exit(0 if same and np.abs(back["images.txt"] - far).max() > 0.01 else "changed: quaternions are normalised, or refused")
PYTHON
