#!/usr/bin/env bash
# carla 0.9.16, Map.transform_to_geolocation, which leads from a place in the simulator to latitude and longitude by the
# geoReference of the OpenDRIVE map (a map can be loaded without a server):
# 1. North and south are swapped: OpenDRIVE's y is CARLA's -y, and CARLA's y is added to the latitude as it is. A road that the
#    map has northwards leads south. geolocation_to_transform is mirrored, too, so that there and back is right.
# 2. Of a transverse Mercator projection it takes lat_0 and lon_0, and then goes on with a sphere, so that one kilometre east
#    is 2.3 m too long. x_0, y_0 and k are ignored: a map in UTM's or Gauss-Krueger's numbers is thousands of km away.
# 3. "+proj=utm", which has no lat_0, is not read: the origin is 42 N, 2 E, and a line on standard error says so.
# Seen here, lat_0 49, lon_0 8.4: 1 km along a road to the north is at 48.991 N (49.009); 1 km east is 0.013698 degrees
# (0.013666); with x_0 = 500000, y_0 = 5000000 the map's (500000, 5000000), which is the origin, is at 4.1 N, 12.9 E.
# Python 3.10 to 3.12. Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q carla==0.9.16
"$tmp/venv/bin/python" - <<'PYTHON'
import math
import sys
from importlib.metadata import version

import carla

LATITUDE, LONGITUDE = 49.0, 8.4
ROAD = """<?xml version="1.0"?><OpenDRIVE><header revMajor="1" revMinor="4" name="" version="1" date="" north="0" south="0" east="0"
 west="0"><geoReference><![CDATA[{}]]></geoReference></header><road name="north" length="2000" id="1" junction="-1"><planView>
 <geometry s="0" x="0" y="0" hdg="1.5707963267948966" length="2000"><line/></geometry></planView><elevationProfile/><lateralProfile/>
 <lanes><laneSection s="0"><left/><center><lane id="0" type="none" level="false"/></center><right><lane id="-1" type="driving"
 level="false"><width sOffset="0" a="3.5" b="0" c="0" d="0"/></lane></right></laneSection></lanes></road></OpenDRIVE>"""
TMERC = f"+proj=tmerc +lat_0={LATITUDE} +lon_0={LONGITUDE} +k=1 +x_0={{}} +y_0={{}} +datum=WGS84 +units=m"


def place(world, x, y):
    """Latitude and longitude of a place that the OpenDRIVE map has at x, y."""
    found = world.transform_to_geolocation(carla.Location(x, -y, 0))
    return found.latitude, found.longitude


world = carla.Map("road", ROAD.format(TMERC.format(0, 0)))
north = world.transform_to_geolocation(world.get_waypoint_xodr(1, -1, 1000.0).transform.location).latitude
east = place(world, 1000, 0)[1] - LONGITUDE
squared = 0.00669437999014  # WGS 84's eccentricity
normal = 6378137 / math.sqrt(1 - squared * math.sin(math.radians(LATITUDE)) ** 2)
true_north = LATITUDE + math.degrees(
    1000 / (normal * (1 - squared) / (1 - squared * math.sin(math.radians(LATITUDE)) ** 2))
)
true_east = math.degrees(1000 / (normal * math.cos(math.radians(LATITUDE))))
offset = place(carla.Map("road", ROAD.format(TMERC.format(500_000, 5_000_000))), 500_000, 5_000_000)
utm = place(carla.Map("road", ROAD.format("+proj=utm +zone=32 +datum=WGS84 +units=m")), 0, 0)
back = world.geolocation_to_transform(carla.GeoLocation(*place(world, 100, 200), 0))
print("carla", version("carla"), "1 km north:", round(north, 6), "true:", round(true_north, 6), "1 km east:", round(east, 6), "true:",
      round(true_east, 6), "origin in x_0, y_0:", offset, "utm:", utm, "back:", back)  # fmt: skip
same = abs(north - (2 * LATITUDE - true_north)) < 5e-5 and 1.002 < east / true_east < 1.0026
same = (
    same and abs(back.x - 100) < 0.01 and abs(back.y + 200) < 0.01 and max(map(abs, (utm[0] - 42, utm[1] - 2))) < 1e-6
)
sys.exit(
    0 if same and abs(offset[0] - LATITUDE) > 10 else "changed: latitudes grow to the north, or by the map's projection"
)
PYTHON
