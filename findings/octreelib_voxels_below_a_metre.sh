#!/usr/bin/env bash
# octreelib 0.0.9 (numpy 1.26.4), octrees of point clouds for SLAM, Grid:
# 1. The lower corner of each voxel is cut to a whole number of metres (coordinates, not indices, are made integers, towards
#    zero). With voxel_edge_length=1, as it is unless told otherwise, that is right; with 0.5, which indoor maps have, the
#    points of a whole metre, and around the origin of more, are one voxel, whose edge says 0.5 m; normals, planes and counts
#    of a voxel are of all these. subdivide then raises IndexError as soon as a point is outside of the box that it is in.
# 2. corner=, where the grid begins, is taken off and not put on again: points are grouped as told, and each voxel's
#    corner_min is off by it, so that its box does not hold its points.
# Seen here, points at -0.6, -0.1, 0.1, 0.6, 1.1, 1.6 along x: with 0.5 three voxels, at 0 one of -0.1, 0.1, 0.6, where there
# are six; with 1 three, as there should be; with corner (0.5, 0, 0) the voxel of -0.1 and 0.1 is said to begin at -1, not at
# -0.5.
# k3d and Numba, for pictures and CUDA, are stood in for. Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q numpy==1.26.4
"$tmp/venv/bin/pip" install -q --no-deps octreelib==0.0.9
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
from unittest.mock import MagicMock

for name in ("k3d", "numba", "numba.cuda", "numba.cuda.random"):
    sys.modules[name] = MagicMock()

import numpy as np
from octreelib.grid import Grid, GridConfig

ALONG_X = (-0.6, -0.1, 0.1, 0.6, 1.1, 1.6)


def grid(edge, corner=(0.0, 0.0, 0.0)):
    made = Grid(GridConfig(voxel_edge_length=edge, corner=np.array(corner)))
    made.insert_points(0, np.array([[x, 0.1, 0.1] for x in ALONG_X]))
    return made


def voxels(made):
    """The places along x, by the lower end of their voxel along x."""
    return {float(voxel.corner_min[0]): sorted(voxel.get_points()[:, 0].tolist()) for voxel in made.get_leaf_points(0)}


half, whole, moved = voxels(grid(0.5)), voxels(grid(1)), voxels(grid(1, (0.5, 0, 0)))
try:
    grid(0.5).subdivide([lambda points: len(points) > 1])
    raised = "nothing"
except IndexError:
    raised = "IndexError"
print("octreelib", version("octreelib"), "0.5 m:", half, "1 m:", whole, "from 0.5:", moved, "subdivide raises", raised)
same = half == {-1: [-0.6], 0: [-0.1, 0.1, 0.6], 1: [1.1, 1.6]} and raised == "IndexError"
same = same and whole == {-1: [-0.6, -0.1], 0: [0.1, 0.6], 1: [1.1, 1.6]} and moved[-1] == [-0.1, 0.1]
sys.exit(0 if same else "changed: half a metre is a voxel")
PYTHON
