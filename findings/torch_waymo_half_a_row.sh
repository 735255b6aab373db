#!/usr/bin/env bash
# torch-waymo 0.2.0 makes clouds of the Waymo Open Dataset's range images (v2, parquet) without TensorFlow. Where a LiDAR has no
# list of inclinations, but a least and a greatest one (the four LiDARs at the sides, 200 rows), Waymo's own code takes the
# MIDDLES of the rows between these two; torch-waymo takes the two as the first and the last row. All rows but the middle ones
# are turned, the uppermost up and the lowest down, by up to half a row. Its other converter, of v1 files, calls Waymo's code,
# so that the same scan in v1 and in v2 has two shapes. (The LiDAR on the roof has a list and is right.)
# Seen here, 200 rows from -90 to 30 degrees: +0.3 degrees at the top, -0.3 at the bottom: 10 cm at 20 m.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q torch==2.13.0+cpu numpy==2.4.6 tqdm==4.67.1
"$tmp/venv/bin/pip" install -q --no-deps torch-waymo==0.2.0
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from torch_waymo.converters.geometry import beam_inclinations, range_image_to_point_cloud

ROWS, LEAST, GREATEST = 200, -np.pi / 2, np.pi / 6
found = beam_inclinations(ROWS, None, LEAST, GREATEST)
middles = (LEAST + (np.arange(ROWS) + 0.5) / ROWS * (GREATEST - LEAST))[::-1]
off = np.degrees(found - middles)
image = np.zeros((ROWS, 16, 4), np.float32)
image[0, :, 0] = 20
first, true = (range_image_to_point_cloud(image, np.eye(4), rows) for rows in (found, middles))
apart = np.linalg.norm(first - true, axis=1).max()
listed = beam_inclinations(3, [-0.2, 0.0, 0.1], 0, 0).tolist()
print("torch-waymo", version("torch-waymo"), "degrees off, from the top:", off[[0, 50, 99, 150, -1]].round(3), "at 20 m:", apart.round(3))
same = np.allclose([off[0], off[-1]], (0.3, -0.3)) and found[0] == GREATEST and 0.1 < apart < 0.11
sys.exit(0 if same and listed == [0.1, 0, -0.2] else "changed: rows are at their middles")
PYTHON
