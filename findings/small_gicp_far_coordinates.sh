#!/usr/bin/env bash
# small_gicp 1.0.1, voxelgrid_sampling and preprocess_points: a cloud in map coordinates (UTM: northings of some 5,700,000 m)
# becomes ONE point, and that is not its mean but one of its points. Voxels are numbered with 21 bits an axis around zero,
# so points farther than a million voxels from the origin (262 km at 0.25 m) have none; they are left out, each with a line
# on standard error, no exception and no count, and the first of them is kept. Registration then goes on with that point.
# The same cloud near the origin keeps a point for each occupied voxel. Take an offset off before, as LAS readers do.
# Seen here: 4,998 voxels of 0.25 m near the origin, 1 at 500000 / 5700000, an input point.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q small_gicp==1.0.1 numpy==2.4.6
"$tmp/venv/bin/python" - 2> "$tmp/warnings" <<'PYTHON'
import sys

import numpy as np
import small_gicp

near = np.random.default_rng(0).uniform(-20.0, 20.0, (5000, 3))
utm = near + [500000.0, 5700000.0, 100.0]
kept = {name: small_gicp.voxelgrid_sampling(cloud, 0.25).points()[:, :3] for name, cloud in (("near", near), ("utm", utm))}
is_input = bool((np.abs(utm - kept["utm"][0]).max(axis=1) < 1e-6).any())
print(f"near the origin: {len(kept['near'])} points; in UTM: {len(kept['utm'])}, an input point: {is_input}")
sys.exit(0 if len(kept["near"]) == 4998 and len(kept["utm"]) == 1 and is_input else 1)
PYTHON
