#!/usr/bin/env bash
# depthai 3.12.0 (2.30 alike), CalibrationHandler.getCameraIntrinsics for an image of another shape than the sensor's, with
# keepAspectRatio=True, as it is unless told otherwise: its documentation says that it scales "on width or height depending on
# which provides the max resolution and crops the remaining part of the other side", and cropping is what
# Camera.requestOutput does unless told otherwise (ImgResizeMode.CROP). In truth it scales by the WIDTH whatever the shape;
# where that leaves the image too low it adds bars above and below. So for square inputs of detectors and for 4:3, the usual
# sizes, the focal length is that of a letterboxed image and too small; the principal point is in the middle of
# both, so that nothing looks odd, and points of depth and pixel are too far from the axis. Images wider than the sensor's
# shape are right.
# Seen here, a sensor of 1280 x 800 with a focal length of 800: 640 x 480 -> 400 (a cropped image has 480), 320 x 320 -> 200
# (320), with points 20 % and 60 % too far from the axis; 1280 x 720 -> 800.
# No device is needed. Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q depthai==3.12.0 numpy==2.4.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys

import depthai
import numpy as np

WIDTH, HEIGHT, FOCAL = 1280, 800, 800.0
socket, calibration = depthai.CameraBoardSocket.CAM_B, depthai.CalibrationHandler()
calibration.setCameraIntrinsics(socket, [[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]], WIDTH, HEIGHT)
calibration.setDistortionCoefficients(socket, [0.0] * 14)
seen = {}
for width, height in ((640, 400), (1280, 720), (640, 480), (320, 320)):
    matrix = np.array(calibration.getCameraIntrinsics(socket, width, height))
    assert np.allclose(matrix[:2, 2], (width / 2, height / 2)) and np.isclose(matrix[0, 0], matrix[1, 1])
    cropped = FOCAL * max(width / WIDTH, height / HEIGHT)
    seen[width, height] = round(matrix[0, 0].item(), 2), cropped
print("depthai", depthai.__version__, "focal length, that of the cropped image:", seen)
wanted = {(640, 400): (400, 400), (1280, 720): (800, 800), (640, 480): (400, 480), (320, 320): (200, 320)}
documented = "crops the remaining part" in " ".join(calibration.getCameraIntrinsics.__doc__.split())
sys.exit(0 if seen == wanted and documented else "changed: intrinsics of other shapes are those of the crop")
PYTHON
