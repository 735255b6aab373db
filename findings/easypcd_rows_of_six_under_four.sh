#!/usr/bin/env bash
# easypcd 0.0.33 (PCD files, and moving least squares) writes coloured clouds that others cannot read. With color=True the
# head says x y z rgb, four fields, and the rows hold x y z r g b, six: the packed colour it makes is for the head only. Its
# own reader and pypcd4 1.4.3 refuse them; what goes by the first four numbers of a row has the red for the colour. Three
# more, without a word: write_txt cuts coordinates to whole numbers, so a room in metres is a few points; whatever goes wrong
# in write_pcd (a folder that is not there) is caught and nothing is written, for "assert" with a text passes; and
# Moving_Least_Squares_Smoothing returns the rough points too, before the smoothed ones, with (0, 0, 0) for those that have
# fewer than 3 neighbours.
# Seen here: 4 fields over 6 numbers a row; (0.4, -1.7, 2.9) becomes "0 -1 2"; no file and no error; of 101 points, one of
# them alone at (50, 50, 5): 202, the last of them at 0, 0, 0.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q easypcd==0.0.33 numpy==2.2.6 scipy==1.15.3 pypcd4==1.4.3
cd "$tmp"
venv/bin/python -W ignore - <<'PYTHON'
import os
import sys
from importlib.metadata import version

import numpy as np
from easypcd.easypcd import ep
from pypcd4 import PointCloud

tool = ep()
tool.write_pcd("colours.pcd", np.array([[1.0, 2.0, 3.0, 255, 128, 64], [4.0, 5.0, 6.0, 10, 20, 30]]), color=True)
lines = open("colours.pcd").read().splitlines()
fields = next(line for line in lines if line.startswith("FIELDS")).split()[1:]
numbers = len(lines[-1].split())


def reads(read):
    try:
        return str(read("colours.pcd"))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


own = reads(lambda path: tool.read_pcd(path)["points"].tolist())
other = reads(lambda path: PointCloud.from_path(path).numpy().tolist())

tool.write_txt("room.txt", np.array([[0.4, -1.7, 2.9]]))
room = open("room.txt").read().split()

tool.write_pcd("absent/cloud.pcd", np.eye(3))
written = os.path.exists("absent/cloud.pcd")

random = np.random.default_rng(1)
rough = np.column_stack([random.uniform(0, 10, (100, 2)), random.normal(1, 0.1, 100)])
rough = np.vstack([rough, [50.0, 50.0, 5.0]])
smooth = tool.Moving_Least_Squares_Smoothing(rough, radius=3.0, tau=1.0)

print("easypcd", version("easypcd"), fields, "over", numbers, "numbers; own:", own, "; pypcd4:", other)
print("txt", room, "written", written, "smoothed", len(rough), "to", len(smooth), "last", smooth[-1])
same = fields == ["x", "y", "z", "rgb"] and numbers == 6 and room == ["0", "-1", "2"] and not written
same = same and len(smooth) == 202 and not smooth[-1].any() and np.array_equal(smooth[:101], rough)
sys.exit(0 if same else "changed: coloured files, txt, errors or smoothing")
PYTHON
