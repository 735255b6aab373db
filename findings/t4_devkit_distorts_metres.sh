#!/usr/bin/env bash
# t4-devkit 0.1.0, the devkit of TIER IV's T4 data sets (Autoware), view_points with distortion, which project_pointcloud hands
# each camera's coefficients to unless told otherwise: the polynomial is applied to x and y in METRES, as if everything
# were 1 m away, and the principal point is added before the division by the depth. So at any other depth a point is
# elsewhere, even with coefficients that are all zero: at 10 m the principal point itself is at a tenth of where it is, and
# nothing of the scene lies where it is seen. distortion=None is right. Without coefficients, and at 1 m, the two agree.
# Seen here, focal length 1000, principal point (960, 540), five zeros: the point straight ahead at 10 m is (96, 54); with
# k1 = -0.3 a point at (2, 1, 10) m is (-4, 4) where OpenCV's is (1157, 638.5).
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-deps t4-devkit==0.1.0 pyquaternion==0.9.9 typing_extensions==4.15.0 numpy==2.2.6
"$tmp/venv/bin/pip" install -q opencv-python-headless==5.0.0.93
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import distribution, version
from types import ModuleType

import cv2
import numpy as np

package = ModuleType("t4_devkit")  # its own __init__ loads a viewer and nuScenes' devkit, which are not needed here
package.__path__ = [str(distribution("t4-devkit").locate_file("t4_devkit"))]
sys.modules["t4_devkit"] = package
from t4_devkit.common.geometry import view_points  # noqa: E402

matrix = np.array([(1000, 0, 960), (0, 1000, 540), (0, 0, 1.0)])
points = np.array([(0, 0, 10), (2, 1, 10), (0.2, 0.1, 1.0)])
lens = np.array([-0.3, 0, 0, 0, 0])
by_opencv = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, lens)[0][:, 0]
theirs = view_points(points.T, matrix, lens)[:2].T
without, zeros = (view_points(points.T, matrix, coefficients)[:2].T for coefficients in (None, np.zeros(5)))
print("t4-devkit", version("t4-devkit"), "distorted:", theirs.round(1).tolist(), "by OpenCV:", by_opencv.round(1).tolist(),
      "five zeros:", zeros.round(1).tolist(), "None:", without.round(1).tolist())  # fmt: skip
same = np.allclose(zeros[0], (96, 54)) and np.allclose(without[0], (960, 540))
same = same and np.allclose(theirs[1], (-4, 4), atol=0.5) and np.allclose(by_opencv[1], (1157, 638.5), atol=0.5)
same = same and np.allclose(theirs[2], by_opencv[2]) and np.allclose(without[1], (1160, 640))
sys.exit(0 if same else "changed: points are where their pixels are at every depth")
PYTHON
