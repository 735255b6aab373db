#!/usr/bin/env bash
# dynamic-object-removal 0.6.0 takes moving objects out of LiDAR scans, by the boxes of KITTI's label_2 among others. With the
# calibration, which the LiDAR needs, each box is turned by 90 degrees about the vertical: rotation_y is 0 where an object
# looks along the camera's x (KITTI's own development kit), and is taken for 0 where it looks along z. So the box of a car that
# drives ahead lies across the road: its two ends stay in the scan, and what is beside it is cut out. WITHOUT the calibration
# file, with the built-in axes, the boxes are right.
# Seen here, a car of 4 x 1.6 m that drives straight ahead, rotation_y -pi/2: its heading in the LiDAR's frame is 1.571 with
# the calibration and 0 without; of points all over it 58 % stay, and 52 % of those on the road beside it go.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-deps dynamic-object-removal==0.6.0 numpy==2.2.6
cd "$tmp"
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from dynamic_object_removal import load_boxes, remove_points_in_boxes

LENGTH, WIDTH, HEIGHT, AHEAD = 4.0, 1.6, 1.5, 15.0
rng = np.random.default_rng(0)
# Camera x is right, y down, z ahead; of the LiDAR x is ahead, y left, z up; both at one place.
Path("calib.txt").write_text("Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0\n")
Path("label.txt").write_text(f"Car 0 0 0 0 0 0 0 {HEIGHT} {WIDTH} {LENGTH} 0 {HEIGHT / 2} {AHEAD} {-np.pi / 2:.6f}\n")


def points(length, left):
    """Over a length of the road and from right to left, in the LiDAR's frame."""
    x, y = rng.uniform(-length / 2, length / 2, 2000) + AHEAD, rng.uniform(*left, 2000)
    return np.stack([x, y, rng.uniform(-0.7, 0.7, 2000)], axis=1)


car, beside = points(LENGTH, (-WIDTH / 2, WIDTH / 2)), points(WIDTH * 2, (WIDTH / 2 + 0.06, 2.0))
seen = {}
for name, calibration in (("calibrated", Path("calib.txt")), ("without", None)):
    (box,) = load_boxes(Path("label.txt"), fmt="kitti", skip_invalid=False, calib_path=calibration)
    kept = [remove_points_in_boxes(cloud, [box])[1].mean().item() for cloud in (car, beside)]
    seen[name] = round(box.yaw, 3), round(kept[0], 2), round(kept[1], 2), box.center.round(3).tolist()
print(
    "dynamic-object-removal",
    version("dynamic-object-removal"),
    "heading, share of the car and of the road that stays, centre:",
    seen,
)
heading, car_stays, road_stays, centre = seen["calibrated"]
same = abs(abs(heading) - np.pi / 2) < 1e-3 and 0.5 < car_stays < 0.7 and road_stays < 0.6 and centre == [AHEAD, 0, 0]
sys.exit(
    0
    if same and abs(seen["without"][0]) < 1e-3 and seen["without"][1:3] == (0, 1)
    else "changed: boxes lie along their cars"
)
PYTHON
