#!/usr/bin/env bash
# pyoctomap 1.2.2, OcTree.extractPointCloud: a voxel of the finest size comes back as its upper corner, half a voxel off along
# all three axes; voxels that were merged into a larger one come back as their middles. So a map's surfaces, which are fine
# voxels, move by half a voxel against its solid and free parts, against the scans that it was made of and against its own
# search() and iterators. The free points are moved, too. octomap-python 1.10.0.0, the same library by the same interface, has
# the middles of both. It is 5 cm with voxels of 10 cm, in one direction, and so a bias for whoever aligns to these points.
# Seen here, voxels of 0.1 m: the one of (1.02, 2.02, 3.02) is (1.10, 2.10, 3.10), with octomap-python (1.05, 2.05, 3.05); of
# eight that are merged the first one is (0.05, 0.05, 0.05) with both.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q pyoctomap==1.2.2 octomap-python==1.10.0.0 numpy==2.4.6
"$tmp/venv/bin/python" - <<'PYTHON'
import itertools
import sys
from importlib.metadata import version

import numpy as np
import octomap
import pyoctomap

SIZE, seen = 0.1, {}
for name, library in (("pyoctomap", pyoctomap), ("octomap-python", octomap)):
    fine, merged = library.OcTree(SIZE), library.OcTree(SIZE)
    fine.updateNode(np.array([1.02, 2.02, 3.02]), True)
    for corner in itertools.product((0.05, 0.15), repeat=3):
        for _ in range(10):  # as often as it takes all eight to be equally sure, which merges them
            merged.updateNode(np.array(corner), True)
    for tree in (fine, merged):
        tree.updateInnerOccupancy()
    seen[name] = [np.array(tree.extractPointCloud()[0])[0].round(4).tolist() for tree in (fine, merged)]
    print(name, version(name), "a fine voxel:", seen[name][0], "the first of eight merged:", seen[name][1])
wanted = {"pyoctomap": [1.1, 2.1, 3.1], "octomap-python": [1.05, 2.05, 3.05]}
same = all(np.allclose(seen[name], [point, [0.05] * 3], atol=1e-3) for name, point in wanted.items())
sys.exit(0 if same else "changed: voxels come back as their middles")
PYTHON
