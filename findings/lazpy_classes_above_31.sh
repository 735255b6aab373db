#!/usr/bin/env bash
# lazpy 0.9.2, LAS and LAZ of version 1.4 (point formats 6 to 10), where classes go to 255 and returns to 15. Each point has a
# field of the old formats and an extended one; its manual filters by the former ("classification"), and says that both are
# "kept consistent by saturating rather than wrapping". They are not:
# 1. Reading: every class from 32 on is 0, never classified, in `classification` (40 is what water's bed has, 64 and more are an
#    agency's own), which a filter for it never finds; return 9 of 12 is 6 of 7. extended_classification is right.
# 2. write_arrays of new points: class 40 in `classification` is written as 8, its lower bits, in a format that has 40. (One
#    Point of it raises.)
# 3. A new Point with return_number=1, number_of_returns=1 is written to these formats as return 0 of 0, although its class is
#    taken. Filters for first returns are empty.
# Seen here, laspy 2.7.0 on the other side: classes 2, 18, 40, 64 read 2, 18, 0, 0; 2, 5, 40 are written as 2, 5, 8.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q lazpy==0.9.2 laspy==2.7.0 numpy==2.4.6
cd "$tmp"
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import laspy
import lazpy
import numpy as np

LAYOUT = {"scales": [0.001] * 3, "offsets": [0, 0, 0]}
header = laspy.LasHeader(point_format=6, version="1.4")
header.scales, header.offsets = LAYOUT.values()
las = laspy.LasData(header)
las.x = las.y = las.z = np.arange(4.0)
las.classification = np.array([2, 18, 40, 64])
las.return_number, las.number_of_returns = np.array([1, 7, 9, 12]), np.array([1, 7, 12, 12])
las.write("read.las")
with lazpy.Reader("read.las") as reader:
    arrays = reader.arrays()
old, new, returns = (arrays[name].tolist() for name in ("classification", "extended_classification", "return_number"))
print("lazpy", version("lazpy"), "reads classes", old, "extended", new, "returns", returns)

places = np.arange(3, dtype=np.int32)
with lazpy.Writer("arrays.las", 6, **LAYOUT) as writer:
    writer.write_arrays({"X": places, "Y": places, "Z": places, "classification": np.array([2, 5, 40], np.uint8)})
with lazpy.Writer("points.las", 6, **LAYOUT) as writer:
    writer.write(lazpy.Point(X=1, Y=2, Z=3, classification=5, return_number=1, number_of_returns=1))
written, point = np.asarray(laspy.read("arrays.las").classification).tolist(), laspy.read("points.las")
point = [int(values[0]) for values in (point.classification, point.return_number, point.number_of_returns)]
print("written by arrays", written, "one point: class, return, of", point)
same = (old, new, returns) == ([2, 18, 0, 0], [2, 18, 40, 64], [1, 7, 6, 7])
same = same and written == [2, 5, 8] and point == [5, 0, 0]
same = same and "saturating rather than wrapping" in " ".join(lazpy.Point.__doc__.split())
sys.exit(0 if same else "changed: classes above 31 and first returns are kept")
PYTHON
