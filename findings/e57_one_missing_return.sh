#!/usr/bin/env bash
# e57 0.2.3, read_points: one point whose cartesianInvalidState is not 0, a missing return as the files of terrestrial
# scanners are full of, takes the intensities and colours of ALL points away: the other points are there, `intensity` and
# `color` are empty arrays of shape (0, 1) and (0, 3), as if the file had neither. A second scan without intensity in the
# same file does the same to those of the first.
# Seen here, in files that pye57 0.4.19 wrote: four valid points have four intensities; with the second one invalid three
# points and no intensity are left, of which pye57 reads three.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q e57==0.2.3 pye57==0.4.19 numpy==2.4.6
"$tmp/venv/bin/python" - "$tmp" <<'PYTHON'
import sys
from importlib.metadata import version

import e57
import numpy as np
import pye57


def shapes(name, states, scans=1):
    """Shapes of points, intensity and colour as e57 reads them, and pye57's count of intensities in the first scan."""
    path = f"{sys.argv[1]}/{name}.e57"
    file = pye57.E57(path, mode="w")
    for number in range(scans):
        scan = {f"cartesian{axis}": np.arange(1.0, 5) for axis in "XYZ"} | {"cartesianInvalidState": np.array(states)}
        scan |= {"intensity": np.array([0.1, 0.2, 0.3, 0.4])} if number == 0 else {}
        scan |= {f"color{name}": np.arange(4) for name in ("Red", "Green", "Blue")} if number == 0 else {}
        file.write_scan_raw(scan)
    file.close()
    cloud, other = e57.read_points(path), pye57.E57(path).read_scan(0, intensity=True, ignore_missing_fields=True)
    return cloud.points.shape, cloud.intensity.shape, cloud.color.shape, len(other["intensity"])


found = {"valid": shapes("valid", [0] * 4), "missing": shapes("missing", [0, 2, 0, 0]), "two": shapes("two", [0] * 4, 2)}
print("e57", version("e57"), "points, intensity, color, pye57's intensities:", found)
wanted = {"valid": ((4, 3), (4, 1), (4, 3), 4), "missing": ((3, 3), (0, 1), (0, 3), 3), "two": ((8, 3), (0, 1), (0, 3), 4)}
sys.exit(0 if found == wanted else "changed: intensities and colours of valid points are read")
PYTHON
