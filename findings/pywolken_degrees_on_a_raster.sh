#!/usr/bin/env bash
# pywolken 0.1.1, pipelines for LAS and PLY after PDAL's manner, gives files back otherwise than they were:
# - its LAS writer has one raster, 0.001, whatever the file read had and whatever the unit: coordinates in degrees (EPSG:4326)
#   are moved by up to 56 m, metres of 0.1 mm to the millimetre.
# - what LAS has no name for is left out without a word, so its own filters' results: filters.hag, then a LAS file, and the
#   heights above ground are gone, as are extra dimensions of the file that was read.
# - ScanAngleRank holds two units: whole degrees of point formats 0 to 5 and the 0.006 degrees of formats 6 to 10, raw. A range
#   of "ScanAngleRank[-15:15]" keeps 0.09 degrees of the latter, and in a file turned from format 6 to 1 they wrap at 128.
# - filters.range, compatible with PDAL by its description, joins two ranges of ONE dimension by "and" where PDAL has "or":
#   "Classification[2:2],Classification[6:6]", ground and buildings, is nothing.
# Seen here: (8.123456789, 48.987654321) comes back as (8.123, 48.988), 33 m west and 38 m north; no HeightAboveGround and no
# extra dimension; of angles of -30 to 30 degrees in steps of 1 the range keeps 1 in format 6 and 31 in format 1; 0 points of
# ground and buildings, 6 given.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q pywolken==0.1.1 laspy==2.7.0 numpy==2.2.6 scipy==1.15.3
cd "$tmp"
venv/bin/python -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import laspy
import numpy as np
from pywolken.filters.hag import HagFilter
from pywolken.filters.range import RangeFilter
from pywolken.io.las import LasReader, LasWriter


def made(path, form, scale, places, **values):
    header = laspy.LasHeader(point_format=form, version="1.4" if form > 5 else "1.2")
    header.offsets, header.scales = np.floor(np.min(places, axis=0)), [scale] * 3
    header.add_extra_dim(laspy.ExtraBytesParams(name="echo_width", type=np.float32))
    las = laspy.LasData(header)
    las.x, las.y, las.z = np.transpose(places)
    las["echo_width"] = np.full(len(places), 4.5, np.float32)
    for name, value in values.items():
        las[name] = value
    las.write(path)
    return LasReader().read(path)


place = np.array([[8.123456789, 48.987654321, 100.0], [8.2, 49.0, 101.0]])
cloud = made("degrees.las", 6, 1e-9, place)
LasWriter().write(cloud, "again.las")
back = laspy.read("again.las")
moved = np.round([back.x[0], back.y[0]], 9)
west, north = (place[0, :2] - moved) * [111_320 * np.cos(np.radians(49)), -111_320]

six = np.array([[step, 0.0, step % 2] for step in range(6)])
cloud = made("six.las", 6, 1e-4, six, classification=[2, 2, 2, 6, 6, 6])
high = HagFilter().filter(cloud)
LasWriter().write(high, "high.las")
kept = set(laspy.read("high.las").point_format.dimension_names) & {"HeightAboveGround", "echo_width"}
had = {"HeightAboveGround", "echo_width"} <= set(high.dimensions)
both = RangeFilter(limits="Classification[2:2],Classification[6:6]").filter(cloud).num_points

angles = np.arange(-30, 31)
line = np.column_stack([angles, angles, angles]).astype(float)
new = made("new.las", 6, 1e-3, line, scan_angle=np.round(angles / 0.006).astype(np.int16))
old = made("old.las", 1, 1e-3, line, scan_angle_rank=angles.astype(np.int8))
within = [RangeFilter(limits="ScanAngleRank[-15:15]").filter(cloud).num_points for cloud in (new, old)]
LasWriter().write(new, "turned.las", point_format_id=1)
turned = np.asarray(laspy.read("turned.las").scan_angle_rank)

print("pywolken", version("pywolken"), "moved to", moved, f"{west:.0f} m west, {north:.0f} m north")
print("computed and read", had, "left of them", sorted(kept), "within 15 degrees", within, "ground or buildings", both)
print("angles of format 6 in format 1", turned[::10])
same = abs(moved[0] - 8.123) < 1e-8 and had and not kept and within == [1, 31] and both == 0
same = same and not np.array_equal(turned, angles)
sys.exit(0 if same else "changed: the raster, extra dimensions, scan angles or ranges")
PYTHON
