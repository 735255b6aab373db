#!/usr/bin/env bash
# pymeshlab 2025.7.post1 (MeshLab) and LiDAR scans:
# 1. E57: each scan's pose is read into the mesh's transform_matrix, and save_current_mesh writes the points WITHOUT it: every
#    scan of a registered project is a file around its own scanner, all on top of each other. vertex_matrix() is without it,
#    too; transformed_vertex_matrix() has it. A project that is merged before (generate_by_merging_visible_meshes) is right.
# 2. .xyz with a fourth column, an intensity, is an EMPTY cloud; nothing is raised. Six columns are read as points and normals,
#    colours too.
# Seen here: a point at (1, 0, 0) of a scan that stood at (100, 0, 0), turned by 90 degrees about z, is (1, 0, 0) in the
# .ply (pye57 0.4.19, which wrote the E57, reads (100, 1, 0)); "1 2 3 0.5" twice is a cloud of 0 points, "1 2 3" twice of 2.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q pymeshlab==2025.7.post1 pye57==0.4.19 plyfile==1.1.5 numpy==2.4.6
cd "$tmp"
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pye57
import pymeshlab
from plyfile import PlyData

half = np.sqrt(0.5)
file = pye57.E57("scan.e57", mode="w")
axes = {f"cartesian{axis}": np.array(values) for axis, values in zip("XYZ", ((1.0, 0.0), (0.0, 2.0), (0.0, 0.0)))}
file.write_scan_raw(axes, rotation=np.array([half, 0, 0, half]), translation=np.array([100.0, 0, 0]))
file.close()
read = pye57.E57("scan.e57").read_scan(0, ignore_missing_fields=True)
meshes = pymeshlab.MeshSet()
meshes.load_new_mesh("scan.e57")
meshes.save_current_mesh("scan.ply")
vertices = PlyData.read("scan.ply")["vertex"]
saved, true = ([one[key][0].item() for key in keys] for one, keys in ((vertices, "xyz"), (read, axes)))
moved = meshes.current_mesh().transformed_vertex_matrix()[0]
meshes.generate_by_merging_visible_meshes()
merged = meshes.current_mesh().vertex_matrix()[0]
print("pymeshlab", version("pymeshlab"), "saved:", saved, "pye57:", true, "transformed:", moved, "merged:", merged)
counts = []
for line in ("1 2 3 0.5\n", "1 2 3\n"):
    Path("cloud.xyz").write_text(line * 2)
    meshes = pymeshlab.MeshSet()
    meshes.load_new_mesh("cloud.xyz")
    counts.append(meshes.current_mesh().vertex_number())
print("points of two lines of four and of three columns:", counts)
same = saved == [1, 0, 0] and np.allclose([true, moved, merged], (100, 1, 0)) and counts == [0, 2]
sys.exit(0 if same else "changed: poses of scans are saved, or a fourth column is read")
PYTHON
