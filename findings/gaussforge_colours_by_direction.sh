#!/usr/bin/env bash
# gaussforge 0.6.0 converts Gaussian splats between six formats of files. Into two of them it writes other splats than it reads:
# 1. compressed.ply: the colours by direction (spherical harmonics, f_rest) are written coefficient by coefficient, red, green and
#    blue in turn, where the format has all of red's, then green's, then blue's, as .ply has. What changes red with the direction
#    changes all three after that: a splat that shimmers red shimmers grey. Its own reader and gsply 0.4.6 agree on what is in
#    the file; of a file that gsply wrote, both read what went in. Positions, sizes, turns and base colours are right.
# 2. spz: y and z are not turned round, as the format's description has it (spz_splats_upside_down.sh).
# There is no error and no warning, and with base colours only, degree 0, nothing to see.
# Seen here, 15 coefficients of 0.5, -0.5 and 0 for red, green and blue: red's are 0.52, -0.48, 0.02, 0.52, -0.48, ... (a step of
# the format is 0.03) by both readers, of gsply's file 0.52, 0.52, 0.52, ...; (1, 2, 3) m is (1, 2, 3) m in .spz.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q gaussforge==0.6.0 gsply==0.4.6 plyfile==1.1.5 numpy==2.4.6
cd "$tmp"
venv/bin/python - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import gaussforge
import gsply
import numpy as np
from gsply import spz
from plyfile import PlyData, PlyElement

COLOURS = 0.5, -0.5, 0.0
forge = gaussforge.GaussForge()
names = ["x", "y", "z", *(f"f_dc_{i}" for i in range(3)), *(f"f_rest_{i}" for i in range(45)), "opacity"]
names += [*(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
splats = np.zeros(8, [(name, "<f4") for name in names])
splats["x"], splats["y"], splats["z"], splats["rot_0"] = 1, 2, 3, 1
for i in range(45):
    splats[f"f_rest_{i}"] = COLOURS[i // 15]
for i in range(3):
    splats[f"scale_{i}"] = -4
PlyData([PlyElement.describe(splats, "vertex")]).write("in.ply")


def converted(data, source, target):
    answer = forge.convert(data, source, target)
    if answer.get("error"):
        raise SystemExit(answer["error"])
    return bytes(answer["data"])


def red(path):
    """The first coefficients of red of a .ply."""
    vertex = PlyData.read(path)["vertex"]
    return [round(float(vertex[f"f_rest_{i}"][0]), 2) for i in range(5)]


data = Path("in.ply").read_bytes()
Path("gf.compressed.ply").write_bytes(converted(data, "ply", "compressed.ply"))
Path("own.ply").write_bytes(converted(Path("gf.compressed.ply").read_bytes(), "compressed.ply", "ply"))
other = [round(float(one), 2) for one in gsply.plyread("gf.compressed.ply").shN[0, :5, 0]]
gsply.plywrite("gsply.ply", gsply.plyread("in.ply"), compressed=True)
Path("across.ply").write_bytes(converted(Path("gsply.compressed.ply").read_bytes(), "compressed.ply", "ply"))
Path("gf.spz").write_bytes(converted(data, "ply", "spz"))
place = spz.read_spz("gf.spz").means[0].round(3).tolist()
print("gaussforge", version("gaussforge"), "red of its file, by itself:", red("own.ply"), "by gsply:", other,
      "of gsply's file:", red("across.ply"), "plain .ply:", red("in.ply"), ".spz:", place)  # fmt: skip
mixed = [0.52, -0.48, 0.02, 0.52, -0.48]
same = red("own.ply") == mixed and other == mixed and red("across.ply") == [0.52] * 5
sys.exit(0 if same and place == [1, 2, 3] else "changed: colours by direction, or the axes of .spz, are right")
PYTHON
