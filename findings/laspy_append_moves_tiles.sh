#!/usr/bin/env bash
# laspy 2.7.0 (numpy 2.4.6), LasAppender.append_points: points that were read from a file with another offset or scale are
# appended as the whole numbers that they are stored as, without a word, so that they land where the FIRST file's
# offset and scale put these. Offsets differ from tile to tile (most writers take the tile's corner): the second tile is
# moved onto the first. LasData(header, points) with another header does the same: a cloud is ten times as large. Writing the
# same points by LasWriter.write_points converts them, so that a merge by one call is right and by the other is not.
# Seen here: x of (1, 2), offset 0, and of (101, 102), offset 100: appended 1, 2, 1, 2; written 1, 2, 101, 102. Points with a
# scale of 1 mm under the default header's 1 cm: 101, 102 -> 10, 20 (the offset goes, too).
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q laspy==2.7.0 numpy==2.4.6
"$tmp/venv/bin/python" - "$tmp" <<'PYTHON'
import sys
from pathlib import Path

import laspy
import numpy as np

folder = Path(sys.argv[1])


def tile(name, offset):
    """A file with two points at 1 and 2 m from its offset along x, and its points as they are read again."""
    header = laspy.LasHeader(point_format=3, version="1.2")
    header.offsets, header.scales = [offset, 0, 0], [0.001] * 3
    las = laspy.LasData(header)
    las.x, las.y, las.z = np.array([offset + 1.0, offset + 2.0]), np.zeros(2), np.zeros(2)
    las.write(folder / name)
    with laspy.open(folder / name) as file:
        return file.header, file.read_points(2)


header, first = tile("first.las", 0.0)
_, second = tile("second.las", 100.0)
with laspy.open(folder / "written.las", mode="w", header=header) as file:
    file.write_points(first)
    file.write_points(second)
with laspy.open(folder / "first.las", mode="a") as file:
    file.append_points(second)
default = laspy.LasHeader(point_format=3, version="1.2")
found = {
    "written": np.asarray(laspy.read(folder / "written.las").x),
    "appended": np.asarray(laspy.read(folder / "first.las").x),
    "default header": np.asarray(laspy.LasData(default, points=second).x),
}
print(laspy.__version__, "x of 1, 2 and of 101, 102:", {name: x.tolist() for name, x in found.items()})
wanted = {"written": [1, 2, 101, 102], "appended": [1, 2, 1, 2], "default header": [10, 20]}
same = all(np.allclose(found[name], x) for name, x in wanted.items())
sys.exit(0 if same else "changed: appended points stay where they are, or are refused")
PYTHON
