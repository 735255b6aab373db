#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93, cv2.fisheye.projectPoints: a ray of more than 90 degrees from the optical axis, which a
# fisheye lens of more than 180 degrees does see, is projected to the OPPOSITE side of the image, as the ray of 180 degrees
# minus its angle: OpenCV takes atan(sqrt(x^2 + y^2) / z) of x / z and y / z and never looks at the sign of z.
# A ray at 120 degrees to the right lands at u = 5.8 of a 640 pixel image; the equidistant model puts it at u = 948.3.
# No mask and no warning come with it, so LiDAR points behind a camera are painted into its image.
# Seen here: angle 60, 89, 91, 120 degrees -> u = 634.2, 786.0, -146.0, 5.8 (the model: 634.2, 786.0, 796.5, 948.3).
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q opencv-python-headless==5.0.0.93 numpy==2.4.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys

import cv2
import numpy as np

K = np.array([[300.0, 0, 320], [0, 300, 240], [0, 0, 1]])
zero, seen, model = np.zeros(3), [], []
for degrees in (60, 89, 91, 120):
    angle = np.radians(degrees)
    point = np.array([[[np.sin(angle), 0, np.cos(angle)]]]) * 5  # 5 m away, to the right
    seen.append(float(cv2.fisheye.projectPoints(point, zero, zero, K, np.zeros(4))[0][0, 0, 0]))
    model.append(320 + 300 * angle)
print(cv2.__version__, "cv2.fisheye.projectPoints u:", np.round(seen, 1), "equidistant model:", np.round(model, 1))
mirrored = 320 - 300 * (np.pi - np.radians([91, 120]))
same = np.allclose(seen[:2], model[:2], atol=0.01) and np.allclose(seen[2:], mirrored, atol=0.01)
sys.exit(0 if same else "changed: rays beyond 90 degrees are no longer mirrored")
PYTHON
