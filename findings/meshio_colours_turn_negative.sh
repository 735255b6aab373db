#!/usr/bin/env bash
# meshio 5.3.5 (numpy 2.4.6) reads "property uchar" of a BINARY PLY as signed bytes: colours, classes and intensities from 128
# on turn negative, 255 is -1. The same file as text is right, and so is "property uint8", the same type by its other name
# and the one that meshio writes itself, so that its own files come back. (Its pull request 1320, open since 2022.)
# Seen here, files that plyfile 1.1.5 wrote: red of 10, 128, 255 reads 10, -128, -1 from binary, 10, 128, 255 from text and from
# the binary file with "uint8" in place of "uchar".
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q meshio==5.3.5 plyfile==1.1.5 numpy==2.4.6
cd "$tmp"
"$tmp/venv/bin/python" - <<'PYTHON'
import sys

import meshio
import numpy as np
from plyfile import PlyData, PlyElement

rows = [(1.5, 2, 3, 10), (4, 5, 6, 128), (7, 8, 9, 255)]
vertices = np.array(rows, [("x", "f4"), ("y", "f4"), ("z", "f4"), ("red", "u1")])
seen = {}
for text in (False, True):
    PlyData([PlyElement.describe(vertices, "vertex")], text=text).write("cloud.ply")
    seen["text" if text else "binary"] = meshio.read("cloud.ply").point_data["red"].tolist()
    if not text:
        with open("cloud.ply", "rb") as file:
            named = file.read()
        with open("other.ply", "wb") as file:
            file.write(named.replace(b"property uchar red", b"property uint8 red"))
        seen["uint8"] = meshio.read("other.ply").point_data["red"].tolist()
print("meshio", meshio.__version__, seen)
true = [10, 128, 255]
same = seen == {"binary": [10, -128, -1], "uint8": true, "text": true} and b"property uchar red" in named
sys.exit(0 if same else "changed: uchar is unsigned in binary files, too")
PYTHON
