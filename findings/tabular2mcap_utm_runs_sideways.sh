#!/usr/bin/env bash
# tabular2mcap 0.1.12 writes tables to MCAP by templates; latlon_to_utm(lat, lon), which its templates offer for positions, is
# not UTM: x is longitude * 111320 * cos(latitude), y latitude * 111320. There is no zone, no false easting and no point about
# which this holds, and since cos(latitude) multiplies the whole longitude, every step north moves x, too, the more the
# further one is from Greenwich. Roads to the north lean, in Japan by more than they are long; circles become ellipses that lie
# slanting, and headings from positions are wrong. In Greenwich it looks right.
# Seen here, 1 km due north from 35 degrees north, 139 east: 1390 m to the west, 1003 m to the north (pyproj 3.7.2: 22 m east of
# grid north and 1000 m); from 51.5 north, 0 east: 0 m and 1001 m.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q "tabular2mcap[protobuf]==0.1.12" pyproj==3.7.2 numpy==2.4.6
"$tmp/venv/bin/python" -W ignore - <<'PYTHON'
import json
import sys
from importlib.metadata import version

import numpy as np
from pyproj import Geod, Transformer
from tabular2mcap.converter.functions import ConverterFunctionJinja2Environment

template = ConverterFunctionJinja2Environment().from_string("{{ latlon_to_utm(lat, lon) }}")


def north(latitude, longitude):
    """East and north of a point 1 km due north, by the template's function and by UTM, in m."""
    farther, further, _ = Geod(ellps="WGS84").fwd(longitude, latitude, 0, 1000)
    zone = Transformer.from_crs(4326, 32601 + int((longitude + 180) // 6), always_xy=True)
    places = [json.loads(template.render(lat=lat, lon=lon)) for lat, lon in ((latitude, longitude), (further, farther))]
    drawn = [np.array([place["x"], place["y"]]) for place in places]
    true = [np.array(zone.transform(*place)) for place in ((longitude, latitude), (farther, further))]
    return [(one[1] - one[0]).round() for one in (drawn, true)]


japan, greenwich = north(35.0, 139.0), north(51.5, 0.0)
print("tabular2mcap", version("tabular2mcap"), "1 km north in Japan:", *japan, "in Greenwich:", *greenwich)
same = japan[0][0] < -1300 and 990 < japan[0][1] < 1010 and abs(japan[1][0]) < 30 and abs(greenwich[0][0]) < 1
sys.exit(0 if same else "changed: latlon_to_utm gives UTM")
PYTHON
