#!/usr/bin/env bash
# laspy 2.7.0 (numpy 2.4.6), convert: between the old point formats (0 to 5) and those of LAS 1.4 (6 to 10), which agencies ask
# for, every scan angle becomes 0, in both directions and without a word. The field has another name there and is in steps of
# 0.006 degrees instead of whole degrees; it is not carried over. A filter for |angle| < 15 then keeps every point, and
# a strip's edges look as if seen from above. What the old formats' class 12, overlap, says is a flag of its own in the new
# ones: the class stays 12, which is reserved there, and the flag is 0. laspy.point.format.lost_dimensions(3, 7) names the
# field, if one asks.
# Seen here: -20, 0 and 15 degrees of format 3 are 0, 0, 0 in formats 6 and 7; 15 degrees of format 7 are 0 in format 3.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q laspy==2.7.0 numpy==2.4.6
"$tmp/venv/bin/python" -W error - <<'PYTHON'
import sys
from importlib.metadata import version

import laspy
import numpy as np


def cloud(point_format, **columns):
    points = laspy.LasData(laspy.LasHeader(point_format=point_format))
    points.x = points.y = points.z = np.arange(3.0)
    for name, values in columns.items():
        points[name] = np.array(values)
    return points


old = cloud(3, scan_angle_rank=[-20, 0, 15], classification=[2, 12, 5], user_data=[1, 2, 3])
new = cloud(7, scan_angle=[-3333, 0, 2500])
up = [laspy.convert(old, point_format_id=number) for number in (6, 7)]
down = laspy.convert(new, point_format_id=3)
print("laspy", version("laspy"), "up:", [np.array(one.scan_angle).tolist() for one in up],
      "down:", np.array(down.scan_angle_rank).tolist(), "class, overlap:", np.array(up[1].classification).tolist(),
      np.array(up[1].overlap).tolist(), "user data:", np.array(up[1].user_data).tolist())  # fmt: skip
same = not any(np.any(one.scan_angle) for one in up) and not np.any(down.scan_angle_rank)
same = same and np.array_equal(up[1].classification, [2, 12, 5]) and not np.any(up[1].overlap)
same = same and np.array_equal(up[1].user_data, [1, 2, 3])  # other fields do come along
sys.exit(0 if same else "changed: scan angles are carried over")
PYTHON
