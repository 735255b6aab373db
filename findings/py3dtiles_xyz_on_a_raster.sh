#!/usr/bin/env bash
# py3dtiles 12.1.1 makes 3D Tiles of point clouds, for maps in the browser. Of .xyz and .csv files, the plain text in which
# surveyors hand on clouds:
# 1. Coordinates are read in single precision BEFORE the offset is taken off: in UTM the points come to a raster of 0.5 m
#    northwards and 3 cm eastwards. The tiles' own offset is a double, and looks exact.
# 2. intensity and classification (--extra-fields) go through 8 bits, whatever they are declared as afterwards, float32 and
#    uint32: an intensity of 0 to 1 is 0, 300 is 44, and so is class 300.
# The same cloud as PLY has all of them right. Nothing is said.
# Seen here: three points that are 1.111 m apart come 1.00 m apart northwards; intensities 0.25, 300, 65535 are 0, 44, 255.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q py3dtiles==12.1.1 plyfile==1.1.5 numpy==2.2.6
cd "$tmp"
"$tmp/venv/bin/python" - <<'PYTHON'
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElement
from py3dtiles.convert import convert
from py3dtiles.tileset.content import Pnts

POINTS = 500_000.123, 5_300_000.456, 10.5
ROWS = [
    (*np.add(POINTS, 1.111 * i), intensity, label)
    for i, (intensity, label) in enumerate([(0.25, 2), (300, 40), (65535, 300)])
]
kinds = [("x", "f8"), ("y", "f8"), ("z", "f8"), ("intensity", "f4"), ("classification", "u4")]
PlyData([PlyElement.describe(np.array(ROWS, kinds), "vertex")]).write("cloud.ply")
Path("cloud.xyz").write_text("".join(f"{x:.3f} {y:.3f} {z:.3f} {i} 0 0 0 {label}\n" for x, y, z, i, label in ROWS))


def tiles(name):
    """The points of the tile that has all of them, in the world, their intensities and classes."""
    out = Path(f"of_{name}")
    convert(
        [Path(name)],
        outfolder=out,
        jobs=1,
        extra_fields=["intensity", "classification"],
        rgb=False,
        use_process_pool=False,
    )
    root = json.loads((out / "tileset.json").read_text())["root"]
    offset = sum(np.array(tile["transform"][12:15]) for tile in (root, root["children"][0]))
    found = Pnts.from_file(out / "points" / "r.pnts").body.get_points(None)
    order = np.argsort(found.positions[:, 0])
    return found.positions[order] + offset, *(
        found.extra_fields[key][order].tolist() for key in ("intensity", "classification")
    )


text, ply = tiles("cloud.xyz"), tiles("cloud.ply")
true = np.array([row[:3] for row in ROWS])
off = {
    name: np.abs(points - true).max(axis=0).round(3).tolist() for name, (points, *_) in (("xyz", text), ("ply", ply))
}
steps = np.diff(text[0][:, 1]).round(3).tolist()
print(
    "py3dtiles",
    version("py3dtiles"),
    "off (m):",
    off,
    "steps:",
    steps,
    "intensities:",
    text[1],
    ply[1],
    "classes:",
    text[2],
    ply[2],
)
same = (
    0.05 < off["xyz"][1] < 0.26 and off["xyz"][0] < 0.02 and max(off["ply"]) < 1e-3 and np.allclose(steps, 1, atol=1e-3)
)
same = (
    same
    and text[1] == [0, 44, 255]
    and text[2] == [2, 40, 44]
    and ply[1] == [0.25, 300, 65535]
    and ply[2] == [2, 40, 300]
)
sys.exit(0 if same else "changed: tiles have the coordinates and the intensities of the text")
PYTHON
