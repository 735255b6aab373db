#!/usr/bin/env bash
# pcdkit 0.2.14 writes PCD files of DATA binary_compressed point by point. The format wants them field by field (all x, then all
# y, ...), since they compress better so, and every reader, its own, too, takes them for that: fields of the points are
# shuffled among each other, without a word, since the number of bytes is right. "binary" (its default) and "ascii" are right, and
# so is what it READS: only files that were made smaller with it are lost, and their points can be had back by undoing it.
# Seen here: points (0, 1, 2), (10, 11, 12), ... of intensity 0.5 come back, by pcdkit and by pypcd4 1.5.1, as (0, 11, 22) of
# intensity 0.5, (1, 12, 0.5) of intensity 40, ...; saved as "binary" as they were.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q pcdkit==0.2.14 pypcd4==1.5.1 numpy==2.2.6 numba==0.61.2
cd "$tmp"
venv/bin/python - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import pcdkit
from pypcd4 import PointCloud

NAMES = ("x", "y", "z", "intensity")
points = np.zeros(5, [(name, np.float32) for name in NAMES])
for i, name in enumerate(NAMES[:3]):
    points[name] = 10 * np.arange(5) + i
points["intensity"] = 0.5
flat = np.array(points.tolist(), np.float32)


def back(kind):
    """What pcdkit and pypcd4 read of it."""
    pcdkit.from_array(points).save("cloud.pcd", kind)
    own = np.array(pcdkit.load_pcd_from_path("cloud.pcd").pc_data.tolist(), np.float32)
    return own, PointCloud.from_path("cloud.pcd").numpy(NAMES)


right, wrong = back("binary"), back("binary_compressed")
print("pcdkit", version("pcdkit"), "compressed:", *(one.tolist() for one in wrong))
same = all(np.array_equal(one, flat) for one in right)
same = same and all(np.array_equal(one.T.ravel(), flat.ravel()) for one in wrong)
sys.exit(0 if same else "changed: compressed files are written field by field")
PYTHON
