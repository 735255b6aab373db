#!/usr/bin/env bash
# pyransac3d 0.7.0, Cylinder.fit, for the poles and trunks of a LiDAR's map: the axis of each attempt is the normal of the plane
# through THREE random points of the surface, and so is the cylinder's own axis only if they lie in one cross-section, which
# of points all over a pole hardly three ever do. No attempt refines it. So with its 10,000 attempts, and points
# without any noise or outlier, the best cylinder has half of the points: leaning by some degrees, or lying on the ground
# with a radius of tens of metres. Planes, spheres, circles and lines are found.
# Seen here, 300 points on the visible half of a pole, radius 0.15 m, 2 m high, threshold 2 cm, three runs: tilted by 4.5, 86.7
# and 3.1 degrees, radius 0.15, 43.0 and 0.15 m, 141, 124 and 164 points, of 300 that the pole itself has.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-deps pyransac3d==0.7.0 numpy==2.2.6
"$tmp/venv/bin/python" - <<'PYTHON'
import random
import sys
from importlib.metadata import version

import numpy as np
import pyransac3d

RADIUS, NEAR = 0.15, 0.02
found = []
for seed in range(3):
    random.seed(seed)
    rng = np.random.default_rng(seed)
    angle, height = rng.uniform(-np.pi / 2, np.pi / 2, 300), rng.uniform(0, 2, 300)
    points = np.stack([5 - RADIUS * np.cos(angle), RADIUS * np.sin(angle), height], axis=1)
    one = pyransac3d.Cylinder().fit(points, thresh=NEAR)
    tilt = np.degrees(np.arccos(abs(one.axis[2])))
    found.append((round(tilt.item(), 1), round(float(one.radius), 2), len(one.inliers)))
print("pyransac3d", version("pyransac3d"), "tilt, radius, inliers of 300:", found)
same = all(inliers < 200 and tilt > 2 for tilt, _, inliers in found) and max(radius for _, radius, _ in found) > 10
sys.exit(0 if same else "changed: a pole is found as it stands")
PYTHON
