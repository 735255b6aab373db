#!/usr/bin/env bash
# laspy 2.7.0 (numpy 2.4.6) stores two kinds of points of a LiDAR wrongly and raises nothing:
# 1. NaN, the missing return of an organised cloud, becomes the smallest 32-bit integer: with a scale of 1 mm a point at
#    -2147483.648 m on each axis, which the header's minimum then names, too. (A coordinate that is too large raises
#    OverflowError. Of NaN only numpy says "invalid value encountered in cast", a RuntimeWarning.)
# 2. An intensity of 0 to 1, as KITTI's reflectances are, is cut to whole numbers and so to 0: LAS has 16-bit integers,
#    of which full strength is 65535. Not even a warning is given.
# Seen here: x of 1, NaN, 3 reads 1, -2147483.648, 3 and intensities of 0.25, 0.5, 0.99 read 0, 0, 0.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q laspy==2.7.0 numpy==2.4.6
"$tmp/venv/bin/python" - <<'PYTHON'
import io
import sys

import laspy
import numpy as np

header = laspy.LasHeader(point_format=6, version="1.4")
header.scales = [0.001] * 3
las = laspy.LasData(header)
las.x = las.y = las.z = np.array([1, np.nan, 3])
las.intensity = np.array([0.25, 0.5, 0.99])
file = io.BytesIO()
las.write(file)
read = laspy.read(io.BytesIO(file.getvalue()))
x, intensity = np.asarray(read.x), np.asarray(read.intensity)
print(laspy.__version__, "x of 1, NaN, 3:", x, "minimum:", read.header.mins, "intensity of 0.25, 0.5, 0.99:", intensity)
same = np.allclose(x, [1, -(2**31) / 1000, 3]) and read.header.mins[0] == x[1] and not intensity.any()
sys.exit(0 if same else "changed: NaN is no point far away, or fractions of the full intensity survive")
PYTHON
