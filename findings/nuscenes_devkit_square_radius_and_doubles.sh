#!/usr/bin/env bash
# nuscenes-devkit 1.2.0 and truckscenes-devkit 1.2.0, which has it from there: methods of PointCloud that do not do what their
# names and documentation say:
# 1. remove_close(radius), "removes point too close within a certain radius from origin", removes a SQUARE COLUMN: |x| and |y|
#    both below it, whatever z. A point at (0.9, 0.9) goes with a radius of 1 (it is at 1.27 m), and so does what is 5 m above
#    or below the sensor. from_file_multisweep calls it for each sweep.
# 2. subsample(ratio), "fraction to keep", draws points WITH replacement: ratio=1.0 keeps 63 % of them, the others are
#    there twice and more; no ratio keeps all of them.
# 3. TruckScenes gives each point a time, and remove_close keeps times with points; subsample leaves `timestamps` as they
#    were, so that no time belongs to its point any more.
# Seen here, 10,000 points: 6,334 and 6,321 different ones after subsample(1.0); after subsample(0.5) 5,000 points and 10,000
# times.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q nuscenes-devkit==1.2.0 truckscenes-devkit==1.2.0
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from nuscenes.utils.data_classes import LidarPointCloud as Nuscenes
from truckscenes.utils.data_classes import LidarPointCloud as Truckscenes

np.random.seed(0)
many = np.stack([np.arange(10_000.0)] * 4)
near = np.array([(0.9, 0.9, 0, 0), (0.1, 0.1, -5, 0), (1.1, 0, 0, 0)]).T
so = []
for name, kind in (("nuscenes-devkit", Nuscenes), ("truckscenes-devkit", Truckscenes)):
    left = kind(near.copy())
    left.remove_close(1.0)
    whole, half = kind(many.copy()), kind(many.copy())
    if kind is Truckscenes:
        half.timestamps = many[:1].astype(np.uint64)
    whole.subsample(1.0)
    half.subsample(0.5)
    different, times = len(np.unique(whole.points[0])), getattr(half, "timestamps", None)
    print(name, version(name), "left:", left.points[:3].T.tolist(), "different:", different, "of", whole.nbr_points())
    so.append(left.nbr_points() == 1 and 6000 < different < 6600 and whole.nbr_points() == 10_000)
    if times is not None:
        print("points and times:", half.nbr_points(), times.shape[1])
        so.append((half.nbr_points(), times.shape[1]) == (5_000, 10_000))
sys.exit(0 if all(so) else "changed: a radius is one, each point is drawn once, or times stay with their points")
PYTHON
