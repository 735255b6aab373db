#!/usr/bin/env bash
# torch 2.13.0+cpu, torch.cdist of float32 points in map coordinates: up to 25 points on either side it takes differences and
# is exact; from 26 points on it takes |a|^2 + |b|^2 - 2ab, in which a few hundred metres from the origin leave nothing of
# the lower digits. Distances come out as 0 or in steps of some decimetres, nearest neighbours and chamfer distances with them,
# and a test with a handful of points is right. compute_mode="donot_use_mm_for_euclid_dist", or taking the mean off first,
# cures it. (The documentation has the 25, and not what it does.)
# Seen here, 26 points in 40 m about the origin: the distance of a point to ITSELF is up to 8 mm; 500 m and 500 m away 0.25 m;
# in UTM coordinates 2 km. With 25 of them it is 0.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q torch==2.13.0+cpu numpy==2.4.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import torch

near = np.random.default_rng(0).uniform(-20, 20, (26, 3))
worst = {}
for name, offset in {"near": (0, 0, 0), "500 m away": (500, 500, 0), "UTM": (500000, 5300000, 0)}.items():
    points = torch.from_numpy((near + offset).astype(np.float32))
    few, more = (torch.cdist(cloud, cloud).diagonal().max().item() for cloud in (points[:25], points))
    exact = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").diagonal().max().item()
    worst[name] = few, more, exact
    print(torch.__version__, f"{name}: to itself, 25 points: {few}, 26 points: {more:.4g}, without the product: {exact}")
exact = all(few == 0 and right == 0 for few, _, right in worst.values())
same = exact and worst["500 m away"][1] > 0.1 and worst["UTM"][1] > 100
sys.exit(0 if same else "changed: points are where they are")
PYTHON
