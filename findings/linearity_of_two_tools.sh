#!/usr/bin/env bash
# pgeof 0.3.4 and jakteristics 0.6.2 give each point the features by which poles, wires, walls and superpoints are told, under
# the same names. Of one neighbourhood they differ:
# 1. linearity and planarity: jakteristics takes the eigenvalues of the covariance, (l1 - l2) / l1 and (l2 - l3) / l1; pgeof
#    takes their roots. Its documentation has no formula. Its `curvature` is of the roots, too.
# 2. verticality: jakteristics has 1 - |nz|, 1 for any wall; with pgeof it is how far the spread points upwards: 1 of a
#    pole, 0.7 of a wall that is as wide as it is high, less of a wider one, so that a long wall is no wall.
# A threshold for one of them, or a classifier that was trained with one, is no good for the other.
# Seen here, a floor of 4 m x 2 m: linearity 0.51 (pgeof) and 0.76, planarity 0.48 and 0.24; walls of 2 m x 2 m and
# 10 m x 2 m: verticality 0.70 and 0.04 (pgeof), 1.00 and 1.00.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q pgeof==0.3.4 jakteristics==0.6.2 numpy==2.4.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import jakteristics
import numpy as np
import pgeof

NAMES, COUNT = ["linearity", "planarity", "verticality"], 2000
random = np.random.default_rng(0)
length, width = random.uniform(-1, 1, (2, COUNT))
thin = random.normal(0, 0.01, COUNT)
clouds = {
    "floor of 4 x 2": np.column_stack([2 * length, width, thin]),
    "wall of 2 x 2": np.column_stack([length, thin, width]),
    "wall of 10 x 2": np.column_stack([5 * length, thin, width]),
}


def features(points):
    """linearity, planarity and verticality of the first point by both; all points are its neighbours."""
    everyone, bounds = np.tile(np.arange(COUNT, dtype=np.uint32), COUNT), np.arange(COUNT + 1, dtype=np.uint32) * COUNT
    first = pgeof.compute_features(points.astype(np.float32), everyone, bounds)[0, [0, 1, 3]]
    second = jakteristics.compute_features(points, search_radius=20.0, feature_names=NAMES)[0]
    return [np.round(one.astype(float), 2).tolist() for one in (first, second)]


found = {name: features(points) for name, points in clouds.items()}
for name, (first, second) in found.items():
    print(f"{name}: {NAMES} of pgeof {version('pgeof')}:", first, f"of jakteristics {version('jakteristics')}:", second)
floor, square, long = found.values()
eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(clouds["floor of 4 x 2"].T)))[::-1]
roots = np.sqrt(eigenvalues)
same = np.allclose([floor[1][0], floor[0][0]], [1 - one[1] / one[0] for one in (eigenvalues, roots)], atol=0.02)
same = same and 0.65 < square[0][2] < 0.75 and long[0][2] < 0.1 and min(square[1][2], long[1][2]) > 0.98
sys.exit(0 if same else "changed: the two mean the same by linearity and verticality")
PYTHON
