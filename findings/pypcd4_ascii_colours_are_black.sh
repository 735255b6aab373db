#!/usr/bin/env bash
# pypcd4 1.5.1 writes every float of an ASCII PCD with ten decimals. PCL's field rgb keeps 0x00RRGGBB in the bits of a float,
# as pypcd4's own encode_rgb does; these floats are of the order of 1e-38, so each becomes 0.0000000000: all colours of
# Encoding.ASCII are black, without a word. Binary files have them right, and the format wants enough digits: with nine
# significant ones ("%.9g") pypcd4 reads the same colours from text. Every small number fares alike (a variance of 1e-12).
# Seen here: red, (1, 2, 3) and white read (0, 0, 0) three times from ASCII, and right from binary and from nine digits.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q pypcd4==1.5.1 numpy==2.4.6
"$tmp/venv/bin/python" - "$tmp/points.pcd" <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from pypcd4 import Encoding, PointCloud

path, colours = sys.argv[1], np.array([[255, 0, 0], [1, 2, 3], [255, 255, 255]], np.uint8)
x, rgb = np.arange(3, dtype=np.float32), PointCloud.encode_rgb(colours).reshape(-1)
cloud = PointCloud.from_points([x, x, x, rgb], ("x", "y", "z", "rgb"), (np.float32,) * 4)


def read():
    return PointCloud.decode_rgb(PointCloud.from_path(path).pc_data["rgb"].astype(np.float32)).tolist()


found = {}
for encoding in (Encoding.BINARY, Encoding.ASCII):
    cloud.save(path, encoding=encoding)
    found[encoding.value] = read()
with open(path) as file:
    head = file.read().partition("DATA ascii\n")
with open(path, "w") as file:
    file.write("".join(head[:2]) + "".join(f"{a:.9g} {a:.9g} {a:.9g} {c:.9g}\n" for a, c in zip(x, rgb)))
found["nine digits"] = read()
print("pypcd4", version("pypcd4"), "last ASCII line:", head[2].split("\n")[-2], "colours:", found)
wanted = {"binary": colours.tolist(), "ascii": [[0, 0, 0]] * 3, "nine digits": colours.tolist()}
sys.exit(0 if found == wanted else "changed: colours survive ASCII, or are lost elsewhere, too")
PYTHON
