#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93, undistortPoints and undistortImagePoints: unless criteria are given they stop after FIVE
# rounds, wherever they are. In the middle of an image that is enough; in the corners of an ordinary camera it is not, so that
# rays, triangulated points and whatever is compared with projectPoints are off there, always the same way. A result that
# is projected again does not come back to where it was. 40 rounds are exact.
# Seen here, with the calibration that KITTI publishes for camera 0 of 2011_09_26: the median pixel comes back within 0.002
# pixels, the lower left corner 1.7 pixels off, its ray is turned by 0.13 degrees, 4 cm at 20 m; undistortImagePoints is 4.3
# pixels off there. With criteria=(COUNT, 40, 0): 0.000.
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

K = np.array([[984.2439, 0, 690.0], [0, 980.8141, 233.1966], [0, 0, 1]])
lens = np.array([-0.3728755, 0.2037299, 0.002219027, 0.001383707, -0.07233722])
pixels = np.array([[u, v] for u in (0, 348, 696, 1044, 1391) for v in (0, 256, 511)], float)[:, None]
enough = (cv2.TERM_CRITERIA_COUNT, 40, 0)


def rays(**options):
    return np.insert(cv2.undistortPoints(pixels, K, lens, **options)[:, 0], 2, 1, 1)


def off(rays):
    """How far from its pixel each ray is projected."""
    return np.linalg.norm((cv2.projectPoints(rays, np.zeros(3), np.zeros(3), K, lens)[0] - pixels)[:, 0], axis=1)


usual, exact = rays(), rays(criteria=enough)
unit = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in (usual, exact)]
turned = np.degrees(np.linalg.norm(unit[0] - unit[1], axis=1)).max()
straight = cv2.undistortPoints(pixels, K, lens, P=K, criteria=enough)
moved = np.linalg.norm((cv2.undistortImagePoints(pixels, K, lens) - straight)[:, 0], axis=1).max()
print("opencv", cv2.__version__, "pixels off, median and worst:", np.median(off(usual)).round(4), off(usual).max().round(3),
      "at", pixels[off(usual).argmax(), 0], "degrees:", turned.round(3), "undistortImagePoints:", moved.round(2),
      "with 40 rounds:", off(exact).max().round(4))  # fmt: skip
same = np.median(off(usual)) < 0.01 and 1.5 < off(usual).max() < 1.9 and turned > 0.1 and moved > 3
sys.exit(0 if same and off(exact).max() < 1e-3 else "changed: the corners are undistorted to the end")
PYTHON
