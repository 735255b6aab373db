#!/usr/bin/env bash
# projectaria-tools 2.3.0 (Project Aria's data sets), CameraCalibration.project, "with a number of validity checks to ensure the
# point is visible": it answers None for a point outside the image, so that one asks nothing else. But
# 1. LINEAR, the model of the rectified images that its own functions make: a point BEHIND the camera is in the image, mirrored.
# 2. FISHEYE624 and FISHEYE62, the models of its cameras: a ray between 90 degrees and the lens's edge comes out on the
#    OPPOSITE side of the image. KANNALA_BRANDT_K3 and SPHERICAL answer None there; SPHERICAL has the point straight behind
#    in the middle of the image.
# Half of a map's points are behind a camera; those of them within its view turned round are painted, which looks like noise.
# Seen here: (0.1, 0.05, -1) is pixel (269.5, 214.5) of a linear camera; (1, 0, -0.2), 101 degrees to the right, is at u = 45
# of 640 with both fisheyes.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q projectaria-tools==2.3.0 numpy==2.4.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from projectaria_tools.core import calibration
from projectaria_tools.core.sophus import SE3

MODEL = calibration.CameraModelType
PARAMETERS = {"KANNALA_BRANDT_K3": [200, 200, 320, 240, 0, 0, 0, 0], "FISHEYE62": [200, 320, 240, *[0] * 8]}
PARAMETERS["FISHEYE624"] = [200, 320, 240, *[0] * 12]
cameras = {
    "LINEAR": calibration.get_linear_camera_calibration(640, 480, 500.0, "linear"),
    "SPHERICAL": calibration.get_spherical_camera_calibration(640, 480, 200.0, "spherical"),
}
for name, values in PARAMETERS.items():
    model, numbers = getattr(MODEL, name), np.array(values, float)
    cameras[name] = calibration.CameraCalibration(name, model, numbers, SE3(), 640, 480, None, 3.0, "")
points = {"ahead": (0.1, 0.05, 1), "behind": (0.1, 0.05, -1), "side": (1, 0, -0.2), "straight behind": (0, 0, -5)}
seen = {}
for name, camera in cameras.items():
    pixels = {where: camera.project(np.array(point, float)) for where, point in points.items()}
    seen[name] = {where: None if pixel is None else pixel.round(1).tolist() for where, pixel in pixels.items()}
    print("projectaria-tools", version("projectaria-tools"), name, seen[name])
same = seen["LINEAR"]["behind"] == [269.5, 214.5] and seen["LINEAR"]["straight behind"] == [319.5, 239.5]
same = same and all(seen[name]["side"][0] < 50 and seen[name]["behind"] is None for name in ("FISHEYE62", "FISHEYE624"))
same = same and seen["KANNALA_BRANDT_K3"]["side"] is None and seen["SPHERICAL"]["straight behind"] is not None
same = same and "validity checks to ensure the point is visible" in " ".join(camera.project.__doc__.split())
sys.exit(0 if same else "changed: what is behind is not visible")
PYTHON
