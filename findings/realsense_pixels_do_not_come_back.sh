#!/usr/bin/env bash
# pyrealsense2 2.59.1.11053 (librealsense), rs2_deproject_pixel_to_point and rs2_project_point_to_pixel, which lead from a
# pixel with its depth to a point and back. Of the distortion models that intrinsics may have:
# 1. inverse_brown_conrady, which colour cameras of the D400 series have: by its documentation the polynomial UNDISTORTS ("undistorts
#    image instead of distorting it"). Both functions take it for the one that distorts, the same as brown_conrady and as
#    OpenCV's. Who follows the documentation has other rays. (Its pull request 13833 wanted to rename the cameras' model.)
# 2. modified_brown_conrady: deproject ignores the coefficients, project applies them.
# 3. ftheta: the two are of different scales, so that a pixel does not come back.
# A point BEHIND the camera is projected, mirrored. None of it raises.
# Seen here, 1280 x 720, focal length 640, coefficients of a mild lens, pixel (1100, 600), whose undistorted x is 0.719: x is
# 0.728 by brown_conrady and by inverse_brown_conrady, where the documented inverse is 0.709; modified_brown_conrady comes back
# at (1094.0, 596.5), ftheta with 0.9 at (1172.1, 637.6); (0.1, 0.1, -1) is at (576, 296).
# No device is needed; libusb-1.0, which the wheel lacks, comes from libusb-package.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q pyrealsense2==2.59.1.11053 libusb-package==1.0.30.0 numpy==2.2.6
ln -s "$tmp"/venv/lib/python3*/site-packages/libusb_package/libusb-1.0.so "$tmp/libusb-1.0.so.0"
LD_LIBRARY_PATH="$tmp" "$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import pyrealsense2 as rs

FOCAL, U, V = 640.0, 640.0, 360.0
LENS = k1, k2, p1, p2, k3 = [-0.055, 0.066, -0.0006, 0.0003, -0.02]
PIXEL = [1100.0, 600.0]


def intrinsics(model, coefficients=LENS):
    one = rs.intrinsics()
    one.width, one.height, one.fx, one.fy, one.ppx, one.ppy = 1280, 720, FOCAL, FOCAL, U, V
    one.model, one.coeffs = getattr(rs.distortion, model), coefficients
    return one


def polynomial(x, y):
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    return x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y)


x, y = (PIXEL[0] - U) / FOCAL, (PIXEL[1] - V) / FOCAL
ray, back = {}, {}
for model in ("brown_conrady", "inverse_brown_conrady", "modified_brown_conrady", "ftheta"):
    camera = intrinsics(model, [0.9, 0, 0, 0, 0] if model == "ftheta" else LENS)
    ray[model] = rs.rs2_deproject_pixel_to_point(camera, PIXEL, 1.0)
    back[model] = np.round(rs.rs2_project_point_to_pixel(camera, ray[model]), 1).tolist()
behind = rs.rs2_project_point_to_pixel(intrinsics("none"), [0.1, 0.1, -1.0])
print("pyrealsense2", version("pyrealsense2"), "x:", {name: round(one[0], 4) for name, one in ray.items()}, "without a lens:", x,
      "documented inverse:", round(polynomial(x, y)[0], 4), "back:", back, "behind:", behind)  # fmt: skip
same = np.allclose(ray["brown_conrady"], ray["inverse_brown_conrady"], atol=1e-5) and np.isclose(
    ray["brown_conrady"][0], 0.7282, atol=1e-4
)
same = same and np.allclose(polynomial(*ray["inverse_brown_conrady"][:2]), (x, y), atol=1e-5)
same = same and back["brown_conrady"] == back["inverse_brown_conrady"] == PIXEL
same = (
    same
    and np.isclose(ray["modified_brown_conrady"][0], x)
    and np.allclose(back["modified_brown_conrady"], (1094.0, 596.5))
)
same = same and np.allclose(back["ftheta"], (1172.1, 637.6)) and np.allclose(behind, (576, 296))
sys.exit(0 if same else "changed: pixels come back, or the inverse model is the inverse")
PYTHON
