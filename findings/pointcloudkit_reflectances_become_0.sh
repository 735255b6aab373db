#!/usr/bin/env bash
# pointcloudkit 0.1.0 (laspy 2.6.1) converts point clouds between .pcd, .ply, .las and KITTI's .bin by one function, convert:
# 1. To LAS: intensities are cut to whole numbers from 0 to 65535. KITTI's reflectances, and those of all who have them from 0
#    to 1, are 0 but for the few that are exactly 1; the file has a field of intensities, which is empty.
# 2. To LAS: coordinates come to a raster of 1 cm, laspy's own where none is given, floors of a 5 mm LiDAR to steps. Fields
#    beside intensity and colour, rings, times and classes, are left out, of what is read from LAS, too.
# 3. From LAS: a colour of 16 bits is divided by 256 if it is above 255 and taken as it is if not, each value for itself: what
#    is nearly black, 200 of 65535, is 200 of 255. Shadows are full of bright dots.
# Seen here, reflectances 0.35, 0.99 and 1: 0, 0, 1; x = 10.004: 10.0; reds of 200, 255, 256 and 65535: 200, 255, 1 and 255.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q pointcloudkit==0.1.0 laspy==2.6.1 numpy==2.2.6
cd "$tmp"
venv/bin/python -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import laspy
import numpy as np
from pointcloudkit import PointCloud, convert

np.array([[10.004, 0.123, -1.654, 0.35], [5.006, 1, 2, 0.99], [1, 2, 3, 1]], np.float32).tofile("scan.bin")
convert("scan.bin", "scan.las")
scan = laspy.read("scan.las")
intensities, places = np.asarray(scan.intensity).tolist(), np.round(np.asarray(scan.x), 6).tolist()

header = laspy.LasHeader(point_format=2, version="1.2")
header.scales = [0.001] * 3
tile = laspy.LasData(header)
tile.x, tile.y, tile.z = np.arange(4.0), np.zeros(4), np.zeros(4)
tile.red = tile.green = tile.blue = np.array([200, 255, 256, 65535], np.uint16)
tile.classification = np.full(4, 2, np.uint8)
tile.write("tile.las")
read = PointCloud.read("tile.las")
reds = read.rgb[:, 0].tolist()
print("pointcloudkit", version("pointcloudkit"), "intensities:", intensities, "x:", places, "reds:", reds, "others:", read.extra)
same = intensities == [0, 0, 1] and places == [10.0, 5.01, 1.0] and reds == [200, 255, 1, 255] and read.extra == {}
sys.exit(0 if same else "changed: reflectances, millimetres or dark colours stay")
PYTHON
