#!/usr/bin/env bash
# pye57 0.4.19, E57.write_scan_raw: E57 is the format in which surveyors hand on scans, in double precision unless a file says
# otherwise, and two kinds of valid points lose their values on the way into it; nothing is raised:
# 1. Coordinates are written in single precision whatever they come in, and read back as float64, so that neither the
#    array's type nor the file's reader shows it. In UTM coordinates the points come to a raster of 0.5 m northwards and 3 cm
#    eastwards. Subtract an offset and give it as `translation`, which is a double: the reader adds it.
# 2. Colours of 16 bits, as LAS files have them, keep their LOWER byte: 65280 is 0, 256 is 0, 300 is 44: noise.
# Seen here: (500123.4567, 5300123.4567, 12.3456) reads (500123.46875, 5300123.5, 12.3456...), with a translation within
# 10 nm; red of 255, 300, 65280, 65535 reads 255, 44, 0, 255.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q pye57==0.4.19 numpy==2.4.6
"$tmp/venv/bin/python" - "$tmp" <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import pye57

point, red = np.array([500123.4567, 5300123.4567, 12.3456]), np.array([255, 300, 65280, 65535], np.uint16)


def written(name, offset):
    columns = {f"cartesian{axis}": np.full(4, value) for axis, value in zip("XYZ", point - offset)}
    columns |= {"colorRed": red, "colorGreen": red, "colorBlue": red}
    path = f"{sys.argv[1]}/{name}.e57"
    with pye57.E57(path, mode="w") as file:
        file.write_scan_raw(columns, translation=offset)
    with pye57.E57(path) as file:
        scan = file.read_scan(0, colors=True, ignore_missing_fields=True)
    return np.array([scan[f"cartesian{axis}"][0] for axis in "XYZ"]), scan["colorRed"].tolist()


plain, colours = written("plain", np.zeros(3))
shifted, _ = written("shifted", np.floor(point))
print("pye57", version("pye57"), plain.dtype, plain.tolist(), "with a translation:", shifted.tolist(), "red:", colours)
same = np.array_equal(plain, np.float32(point).astype(float)) and plain[1] == 5300123.5
same = same and np.abs(shifted - point).max() < 1e-8 and colours == [255, 44, 0, 255]
sys.exit(0 if same else "changed: doubles are stored, or colours scaled")
PYTHON
