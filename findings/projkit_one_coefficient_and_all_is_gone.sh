#!/usr/bin/env bash
# projkit 0.1.3 (opencv-python-headless 4.8.1.78, numpy 1.23.5) lays point clouds upon images:
# 1. project_in_2d_with_K_R_t_dist_coeff, for lenses: with zeros for the coefficients it is right, with any other every point
#    is outside of the image, thousands of pixels away. cv2.undistortPoints, which leads the other way and takes PIXELS, is
#    given coordinates that have been divided by the depth already: each of them is taken for the image's corner.
# 2. nn_interpolation(...).query, the points nearest to given pixels, gives the distances of the nearest ones, and with them
#    other points: the first one of the cloud for the first pixel asked for, the second for the second. Depths filled in by it
#    are those of anything.
# Seen here, focal length 1000, principal point (640, 360), a point at (1, 0, 10): with zeros (740, 360), with k1 = -0.1
# (-40943.8, -23090.8), where cv2.projectPoints has (739.9, 360). Asked for the pixel (50, 50), of a cloud with points at (10,
# 10) and (50, 50): distance 0, point (10, 10).
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q numpy==1.23.5 scipy==1.10.1 opencv-python-headless==4.8.1.78
"$tmp/venv/bin/pip" install -q --no-deps projkit==0.1.3
"$tmp/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import cv2
import numpy as np
from projkit.camops import project_in_2d_with_K_R_t_dist_coeff
from projkit.imutils import nn_interpolation

K = np.array([[1000, 0, 640], [0, 1000, 360], [0, 0, 1]], float)
POINT = np.array([[1.0, 0, 10], [0, 0, 10]])


def projected(k1):
    """The first point, by projkit and by OpenCV."""
    coefficients = np.array([k1, 0, 0, 0, 0])
    image, _, _ = project_in_2d_with_K_R_t_dist_coeff(K, np.eye(3), np.zeros((3, 1)), coefficients, POINT)
    pixels, _ = cv2.projectPoints(POINT, np.zeros(3), np.zeros(3), K, coefficients)
    return np.round(image[0], 1).tolist(), np.round(pixels[0, 0], 1).tolist()


straight, bent = projected(0.0), projected(-0.1)
query = nn_interpolation(np.array([[10.0, 10], [50, 50]]), np.array([[1.0, 1, 5], [5, 5, 40]]))
place, world, distance = query.query([(50, 50)], dist_thresh=15)
print("projkit", version("projkit"), "zeros:", straight, "k1 = -0.1:", bent, "nearest to (50, 50):", place.tolist(),
      world.tolist(), "distance:", distance.tolist())  # fmt: skip
same = straight == ([740, 360], [740, 360]) and bent == ([-40943.8, -23090.8], [739.9, 360])
same = same and place.tolist() == [[10, 10]] and world[0, 2] == 5 and distance[0] == 0
sys.exit(0 if same else "changed: points are where they are seen, or the nearest one is near")
PYTHON
