#!/usr/bin/env bash
# vtk 9.7.1 (pyvista 0.49.1) and point clouds in files:
# 1. vtkPTSReader loses the first two points of every .pts file, with the line of the count in front and without; pyvista.read
#    is that reader. Two points less of a million are not seen; a file of targets or of control points is cut.
# 2. PLY: "property double x" is read as float, and a cloud of doubles is written as float. In UTM coordinates the points
#    come to a raster of 0.5 m northwards and 3 cm eastwards, and nothing says so. Other properties, an intensity, are left
#    out. .vtp and .vtk keep doubles.
# Seen here: of points at x = 0, 1, 2, 3, 4 the reader has 2, 3, 4; (500123.4567, 5300123.4567, 12.3456) becomes
# (500123.46875, 5300123.5, 12.3456), from a file that plyfile wrote, and through pyvista's own save and read.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q vtk==9.7.1 pyvista==0.49.1 plyfile==1.1.5 numpy==2.4.6
"$tmp/venv/bin/python" - "$tmp" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
import pyvista
import vtk
from plyfile import PlyData, PlyElement

folder, point = Path(sys.argv[1]), (500123.4567, 5300123.4567, 12.3456)
lines = "\n".join(f"{x:.3f} 0.000 0.000 100 10 20 30" for x in range(5)) + "\n"
read = {}
for name, text in (("counted", "5\n" + lines), ("bare", lines)):
    (folder / f"{name}.pts").write_text(text)
    read[name] = pyvista.read(folder / f"{name}.pts").points[:, 0].tolist()
print("vtk", vtk.VTK_VERSION, ".pts with x of 0, 1, 2, 3, 4:", read)

vertex = np.array([(*point, 7.0)], [(axis, "f8") for axis in "xyz"] + [("intensity", "f4")])
PlyData([PlyElement.describe(vertex, "vertex")]).write(folder / "site.ply")
pyvista.PolyData(np.array([point])).save(folder / "own.ply")
pyvista.PolyData(np.array([point])).save(folder / "own.vtp")
site, own, kept = (pyvista.read(folder / name) for name in ("site.ply", "own.ply", "own.vtp"))
print("pyvista", pyvista.__version__, "of", point, "site.ply", site.points.tolist(), site.array_names, "own.ply",
      own.points.tolist(), "own.vtp", kept.points.tolist())  # fmt: skip
cut = np.float32(point)
same = all(xs == [2.0, 3.0, 4.0] for xs in read.values()) and site.array_names == []
same = same and all(cloud.points.dtype == np.float32 and (cloud.points[0] == cut).all() for cloud in (site, own))
same = same and (kept.points[0] == point).all() and cut[1] == 5300123.5
sys.exit(0 if same else "changed: all points, or doubles, are kept")
PYTHON
