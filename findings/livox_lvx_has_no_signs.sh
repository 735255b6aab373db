#!/usr/bin/env bash
# livox-lvx 0.2.1 (module lvx) reads the coordinates of .lvx files as UNSIGNED integers. Livox's format has signed 32-bit
# millimetres: whatever is right of the sensor or below it, half of every scan, comes to 4,294 km. x, which a Livox
# looks along, is positive, so that ranges, histograms of x and a picture cut to the scene look right, with half the points.
# Spherical points, unsigned in the format, are right. It is so for raw, extended and dual points.
# Seen here: (10000, -1000, -500) mm reads (10000, 4294966296, 4294966796).
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q livox-lvx==0.2.1
"$tmp/venv/bin/python" - <<'PYTHON'
import io
import struct
import sys
from importlib.metadata import version

from lvx.lvx import LvxFileReader

count, kind = 96, 2  # points of a package of extended Cartesian coordinates, and its type
package = struct.pack("<5BIBBQ", 0, 5, 0, 0, 0, 0, 0, kind, 0) + struct.pack("<3i2B", 10_000, -1_000, -500, 100, 0) * count
device = struct.pack("<16s16s3B6f", b"broadcast", b"", 0, 3, 0, *(0.0,) * 6)
header = b"livox_tech\0\0\0\0\0\0" + struct.pack("<4BIIB", 1, 1, 0, 0, 0xAC0EA767, 50, 1) + device
start = len(header)
frame = struct.pack("<3Q", start, start + 24 + len(package), 0) + package
frames = list(LvxFileReader(io.BytesIO(header + frame)))
points = frames[0].packages[0].points
first = points[0].x, points[0].y, points[0].z
print("livox-lvx", version("livox-lvx"), len(points), "points of (10000, -1000, -500) mm read", first)
same = len(points) == count and first == (10_000, 2**32 - 1_000, 2**32 - 500)
sys.exit(0 if same else "changed: coordinates have signs")
PYTHON
