#!/usr/bin/env bash
# pyproj 3.7.2 (PROJ 9.5.1), Transformer from heights above the ellipsoid, as a GNSS receiver's are, to heights above sea
# level: its wheel has no geoid, and without it the height comes back UNCHANGED and without a word, with only_best=True, too,
# which is there to fail where the best transformation cannot be had. Only allow_ballpark=False raises, and with both of
# them the error names the file that is missing. A map or a flight that mixes the two heights is off by the geoid, some
# 45 m in southern Germany. The coordinates on the ground are right, so that nothing looks odd; a machine with the grid, or
# with PROJ_NETWORK=ON, has other heights than the robot.
# Seen here: 560 m at 48.1 N, 11.5 E stay 560 m in EGM96 and EGM2008, by default and with only_best=True.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q pyproj==3.7.2
PROJ_NETWORK=OFF PROJ_DATA="" PROJ_USER_WRITABLE_DIRECTORY="$tmp" "$tmp/venv/bin/python" - <<'PYTHON'
import sys
import warnings

import pyproj

warnings.simplefilter("error")  # a warning would be a word
place = (11.5, 48.1, 560.0)
heights, errors = {}, []
for name, target in (("EGM96", "EPSG:32632+5773"), ("EGM2008", "EPSG:4326+3855")):
    for options in ({}, {"only_best": True}):
        transformer = pyproj.Transformer.from_crs("EPSG:4979", target, always_xy=True, **options)
        heights[name, *options] = transformer.transform(*place, errcheck=True)[2]
    for options in ({}, {"only_best": True}):
        try:
            pyproj.Transformer.from_crs("EPSG:4979", target, always_xy=True, allow_ballpark=False, **options)
        except pyproj.exceptions.ProjError as error:
            errors.append(str(error))
print(pyproj.__version__, pyproj.proj_version_str, "560 m above the ellipsoid:", heights)
print("allow_ballpark=False:", *(error[:180] for error in errors), sep="\n  ")
same = set(heights.values()) == {560.0} and len(errors) == 4
sys.exit(0 if same and "us_nga_egm96_15.tif" in errors[1] else "changed: heights are above sea level, or refused")
PYTHON
