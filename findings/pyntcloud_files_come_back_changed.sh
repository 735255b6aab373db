#!/usr/bin/env bash
# pyntcloud 0.3.1 (pandas 2.3.3, numpy 2.2.6), PyntCloud.to_file: what it writes is not what its own from_file reads:
# 1. PLY: the header names a type by the FIRST LETTER of the column's: every unsigned integer is a "uchar", every float a
#    "float", whatever its width, and the bytes are those of the column. With a 16-bit intensity, as LAS has it, all columns
#    after it and all points after the first are other numbers, some tiny, some huge; as_text=True writes 300,
#    which is no uchar: from_file reads 44, plyfile raises. (Its pull request 323 is about float64.)
# 2. .xyz, .txt, .csv, .pts and .asc: the row's number and the columns' names are written, too, unless pandas is told not to
#    (index=False, header=False), and read as data: x is 0, 1, 2, ..., y is x, z is y, and z is gone, or the intensity.
# Nothing is raised by either side.
# Seen here: x of 1, 2, 3 beside a uint16 intensity of 300, 400, 500 reads 1, 8.8e-44, 2.3e-41 from PLY, by plyfile as well;
# from .xyz x reads 0, 1, 2.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q pyntcloud==0.3.1 pandas==2.3.3 plyfile==1.1.5 numpy==2.2.6
cd "$tmp"
"$tmp/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import pandas as pd
from plyfile import PlyData
from pyntcloud import PyntCloud

columns = {"x": [1, 2, 3], "y": [4, 5, 6], "z": [7, 8, 9]}
points = pd.DataFrame({name: np.array(values, np.float32) for name, values in columns.items()})
points["intensity"] = np.array([300, 400, 500], np.uint16)
points["ring"] = np.array([1, 2, 3], np.float32)
PyntCloud(points.copy()).to_file("cloud.ply")
PyntCloud(points.copy()).to_file("text.ply", as_text=True)
with open("cloud.ply", "rb") as file:
    declared = [line.decode().split()[1:] for line in file.read().split(b"end_header")[0].split(b"\n") if b"prop" in line]
own, other = PyntCloud.from_file("cloud.ply").points["x"].to_numpy(), PlyData.read("cloud.ply")["vertex"]["x"]
text = PyntCloud.from_file("text.ply").points["intensity"].tolist()
print("pyntcloud", version("pyntcloud"), declared, "x:", own, other, "intensity of text:", text)
ply = ["uchar", "intensity"] in declared and text == [300 % 256, 400 % 256, 500 % 256]
ply = ply and all(x[0] == 1 and np.abs(x[1:] - (2, 3)).min() > 1 for x in (own, other))
ways = []
for ending in ("xyz", "txt", "csv", "pts", "asc"):
    PyntCloud(points[["x", "y", "z"]].copy()).to_file(f"cloud.{ending}")
    read = PyntCloud.from_file(f"cloud.{ending}").points
    ways.append(read.to_numpy()[:, :2].tolist() == [[0, 1], [1, 2], [2, 3]])
    print(ending, list(read.columns), read.to_numpy().tolist())
sys.exit(0 if ply and all(ways) else "changed: clouds come back from PLY or from text as they were")
PYTHON
