#!/usr/bin/env bash
# lanelet2 1.2.3, the projectors by which a lane map comes into metres; each is given an Origin(latitude, longitude,
# altitude), which its manual calls the origin, and means something else by it:
# 1. LocalCartesianProjector: metres to the east, north and up from there, as expected.
# 2. UtmProjector: differences of UTM coordinates along UTM's own grid, which is turned against north (by 2.2 degrees here,
#    3 degrees east of the zone's meridian; by nothing on it); z is the altitude, that of the origin is not taken off.
# 3. MercatorProjector: no differences at all, the origin's latitude is a scale only; z is the altitude.
# A map that is loaded with another projector than the localisation's is turned about the origin, where one looks first,
# and lies under or over the robot by the site's altitude. There and back with one projector is right with each. (Its manual
# calls the first "similar to UTM" and says only that it treats elevation properly.)
# Seen here, origin 48.1 N, 11.9 E, 520 m, a point 0.1 degrees further east at 530 m: (7448.7, 4.8, 5.7), (7444.1, 285.5, 530)
# and (892113, 4089478, 530).
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q lanelet2==1.2.3 numpy==2.2.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import lanelet2
import numpy as np
from lanelet2.core import GPSPoint
from lanelet2.projection import LocalCartesianProjector, MercatorProjector, UtmProjector

here, there = lanelet2.io.Origin(48.1, 11.9, 520.0), GPSPoint(48.1, 12.0, 530.0)
found = {}
for kind in (LocalCartesianProjector, UtmProjector, MercatorProjector):
    point = kind(here).forward(there)
    again = kind(here).reverse(point)
    assert np.allclose((again.lat, again.lon, again.alt), (there.lat, there.lon, there.alt))
    found[kind.__name__] = np.array([point.x, point.y, point.z])
for name, point in found.items():
    print("lanelet2", version("lanelet2"), name, point.round(1), f"{np.degrees(np.arctan2(point[1], point[0])):.2f} degrees")
local, utm, mercator = found.values()
turned = np.degrees(np.arctan2(utm[1], utm[0]) - np.arctan2(local[1], local[0]))
same = 0 < local[2] < 10 and utm[2] == mercator[2] == 530 and 2 < turned < 2.5
same = same and np.allclose(np.hypot(*utm[:2]), np.hypot(*local[:2]), rtol=0.001) and np.hypot(*mercator[:2]) > 4e6
sys.exit(0 if same else "changed: the projectors agree on what the origin is")
PYTHON
