#!/usr/bin/env bash
# pyorbbecsdk2 2.1.2 (OrbbecSDK 2.9.3), transformation3dto2d and transformation2dto2d, which project points and depth pixels
# into the colour image with the camera's distortion. They know ONE of the SDK's models, BROWN_CONRADY:
# 1. transformation3dto2d with any other, BROWN_CONRADY_K6 (that of the Astra 2), INVERSE_ and MODIFIED_BROWN_CONRADY and
#    KANNALA_BRANDT4 among them, leaves the lens out, whatever its coefficients are.
# 2. transformation2dto2d with them undistorts the source pixel and does not distort the target: from a camera to ITSELF a
#    pixel comes to another place. KANNALA_BRANDT4's coefficients are taken for Brown's.
# K6 with k4 = k5 = k6 = 0 is Brown's model, so that one can see that it is none. Points behind the camera are projected, mirrored.
# Nothing is raised. OpenCV's projectPoints has all three models of lenses.
# Seen here, 1280 x 720, focal length 640, coefficients of a mild lens: a point at (0.7, 0.4, 1) m is (1082.1, 612.3) by
# BROWN_CONRADY and OpenCV, (1088, 616) by the others; pixel (1100, 600) stays, by the others it is (1106.0, 603.5).
# No device is needed; Python 3.9 to 3.12. Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-deps pyorbbecsdk2==2.1.2 numpy==1.26.4
cd "$tmp"
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import pyorbbecsdk as ob

FOCAL, U, V = 640.0, 640.0, 360.0
k1, k2, k3, p1, p2 = -0.055, 0.066, -0.02, -0.0006, 0.0003
OTHERS = ("BROWN_CONRADY_K6", "INVERSE_BROWN_CONRADY", "MODIFIED_BROWN_CONRADY", "KANNALA_BRANDT4")

camera, same_place, lens = ob.OBCameraIntrinsic(), ob.OBExtrinsic(), ob.OBCameraDistortion()
camera.fx = camera.fy = FOCAL
camera.cx, camera.cy, camera.width, camera.height = U, V, 1280, 720
same_place.rot, same_place.transform = np.eye(3, dtype=np.float32), np.zeros(3, np.float32)
lens.k1, lens.k2, lens.k3, lens.p1, lens.p2, lens.k4, lens.k5, lens.k6 = k1, k2, k3, p1, p2, 0, 0, 0


def pixels(model):
    """A point in front, one behind the camera, and a pixel that is led from the camera to itself."""
    lens.model = getattr(ob.OBCameraDistortionModel, model)
    points = (ob.OBPoint3f(700.0, 400.0, 1000.0), ob.OBPoint3f(100.0, 100.0, -1000.0))
    front, behind = (ob.transformation3dto2d(point, camera, lens, same_place) for point in points)
    itself = ob.transformation2dto2d(ob.OBPoint2f(1100.0, 600.0), 1000.0, camera, lens, camera, lens, same_place)
    return np.round([(one.x, one.y) for one in (front, behind, itself)], 1).tolist()


x, y = 0.7, 0.4
r2 = x * x + y * y
radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
true = [
    U + FOCAL * (x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)),
    V + FOCAL * (y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y)),
]
brown, others = pixels("BROWN_CONRADY"), {model: pixels(model) for model in OTHERS}
print(
    "pyorbbecsdk2",
    version("pyorbbecsdk2"),
    "true:",
    np.round(true, 1).tolist(),
    "BROWN_CONRADY:",
    brown,
    "others:",
    others,
)
same = (
    np.allclose(brown[0], true, atol=0.06) and brown[2] == [1100, 600] and np.allclose(brown[1], (576, 296), atol=0.2)
)
same = same and all(one[0] == [1088, 616] and one[2] == [1106, 603.5] for one in others.values())
sys.exit(0 if same else "changed: every model is applied")
PYTHON
