#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93, projectPoints, and pycolmap 4.2.1, Camera.img_from_cam with the model FULL_OPENCV: a point
# in FRONT of a pinhole camera, but far outside its view, lands inside the image. The radial polynomial was fitted inside
# the image; outside it turns back (here by k3 < 0), and neither function looks at that, though pycolmap answers NaN
# for a point behind the camera. The usual test, z > 0 and the pixel inside the image, so paints LiDAR points of the
# side into the picture. (A good calibration does it too: OpenCV's manual calls a polynomial that turns back a failed one,
# which can only mean inside the image.) Where its slope, 1 + 3 k1 r^2 + 5 k2 r^4 + 7 k3 r^6, is 0 first, the view ends.
# Seen here, with the calibration that KITTI publishes for camera 0 of 2011_09_26, which sees 41 degrees to either side in
# 1392 pixels: rays of 30, 40, 50, 55, 58, 60 degrees to the right -> u = 1200, 1364, 1487, 1364, 962, 296. The slope is 0
# at 50 degrees.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q pycolmap==4.2.1 opencv-python-headless==5.0.0.93 numpy==2.4.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys

import cv2
import numpy as np
import pycolmap

fx, fy, cx, cy = 984.2439, 980.8141, 690.0, 233.1966
k1, k2, p1, p2, k3 = lens = np.array([-0.3728755, 0.2037299, 0.002219027, 0.001383707, -0.07233722])
K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
camera = pycolmap.Camera(model="FULL_OPENCV", width=1392, height=512, params=[fx, fy, cx, cy, *lens, 0, 0, 0])


def ray(degrees):
    return 20 * np.array([[np.sin(np.radians(degrees)), 0, np.cos(np.radians(degrees))]])


found = {}
for degrees in (30, 40, 50, 55, 58, 60):
    opencv = cv2.projectPoints(ray(degrees), np.zeros(3), np.zeros(3), K, lens)[0].ravel()
    found[degrees] = (round(float(opencv[0])), round(float(np.ravel(camera.img_from_cam(ray(degrees)))[0])), bool(0 < opencv[1] < 512))
slope = np.polynomial.Polynomial([1, 3 * k1, 5 * k2, 7 * k3]).roots()
end = np.degrees(np.arctan(np.sqrt(min(root.real for root in slope if abs(root.imag) < 1e-9 and root.real > 0))))
behind = np.ravel(camera.img_from_cam(ray(180)))
print(cv2.__version__, pycolmap.__version__, "degrees: (u of OpenCV, of pycolmap, v inside)", found)
print(f"the lens model ends at {end:.1f} degrees; behind the camera pycolmap says {behind}")
wanted = {30: 1200, 40: 1364, 50: 1487, 55: 1364, 58: 962, 60: 296}
same = found == {degrees: (u, u, True) for degrees, u in wanted.items()} and np.isnan(behind).all()
sys.exit(0 if same else "changed: rays beyond the end of the lens model have no pixel")
PYTHON
