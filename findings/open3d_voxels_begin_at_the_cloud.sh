#!/usr/bin/env bash
# open3d-cpu 0.20.0, PointCloud.voxel_down_sample: the voxels' raster begins at the cloud's own lowest coordinates, not at the
# origin. One more point anywhere, a stray return below or a scan that begins elsewhere, shifts all voxels, and nearly
# every point of the result changes, by up to a voxel's size. So the same surface in two scans of one frame gives two sets of
# points: differences of them show change where there is none, a map that is down-sampled after each scan creeps, and tiles
# do not fit. open3d.t's voxel_down_sample has its raster at the origin: the one point more is all that changes.
# Seen here, 20,000 points in 10 m, voxels of 0.5 m, one point added 43 m away: 7,938 and 7,657 points, of which 6 % are
# the same, the nearest of the others is 0.2 m away in the median; open3d.t 7,311 and 7,312, all but the new one the same.
# Needs the system's libGL; libusb-1.0, which Open3D's wheel lacks too, comes from libusb-package.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q open3d-cpu==0.20.0 libusb-package==1.0.30.0 scipy==1.17.1 numpy==2.4.6
ln -s "$tmp"/venv/lib/python3*/site-packages/libusb_package/libusb-1.0.so "$tmp/libusb-1.0.so.0"
export LD_LIBRARY_PATH="$tmp${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
"$tmp/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import open3d as o3d
from scipy.spatial import cKDTree

VOXEL = 0.5
cloud = np.random.default_rng(0).uniform(0, 10, (20000, 3))
one_more = np.vstack([cloud, [-30.2, -30.3, -30.1]])


def old(points):
    return np.asarray(o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points)).voxel_down_sample(VOXEL).points)


def new(points):
    return o3d.t.geometry.PointCloud(o3d.core.Tensor(points)).voxel_down_sample(VOXEL).point.positions.numpy()


seen = {}
for name, down in (("open3d", old), ("open3d.t", new)):
    before, after = down(cloud), down(one_more)
    apart = cKDTree(before).query(after[after.min(1) > -1])[0]
    seen[name] = len(before), len(after), float((apart < 1e-9).mean()), float(np.median(apart))
    print(o3d.__version__, name, "points before and after, share of the same, median distance:", seen[name])
same = seen["open3d"][2] < 0.2 and seen["open3d"][3] > 0.1 and seen["open3d.t"][2:] == (1.0, 0.0)
sys.exit(0 if same else "changed: the voxels stay where they are")
PYTHON
