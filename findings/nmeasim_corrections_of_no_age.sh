#!/usr/bin/env bash
# nmeasim 1.1.1.0, a simulator of GNSS receivers for tests of what reads NMEA, writes the age of the differential corrections
# as a piece of its own program: any last_dgps comes out as the text "%06.3f" (or "%02d", by time_dp) in GGA, with a right
# sum. pynmea2 1.19.0 takes it without a word and gives that text as the age, so every test with DGPS or RTK fixes runs on it.
# Three more. Simulator.target is looked at only if heading_variation, the random part of the heading, is not 0: who asks for
# a straight way to a target drives on by the old heading. A static Simulator does not only stand still, its clock does too,
# so one stamp is sent again and again. And a receiver that has had fewer than 4 satellites once keeps "no fix" when they are
# back.
# Seen here: age %06.3f for 2.5 s; the target 1 km to the north, at 36 km/h for 50 s: 500 m north with heading_variation 1e-9
# and 500 m east (the old heading) with 0; 7 positions in 3 static seconds with 1 time; fix 1 with 12 satellites, 0 with 3, 0
# with 12 again.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q nmeasim==1.1.1.0 pynmea2==1.19.0 geographiclib==2.1
cd "$tmp"
venv/bin/python -W ignore - <<'PYTHON'
import io
import sys
import time
from datetime import datetime, timezone
from importlib.metadata import version

import pynmea2
from geographiclib.geodesic import Geodesic
from nmeasim.constants import FixType
from nmeasim.models import GpsReceiver
from nmeasim.simulator import Simulator

NOON = datetime(2020, 1, 1, 12, tzinfo=timezone.utc)


def receiver(**settings):
    return GpsReceiver(date_time=NOON, lat=48.0, lon=11.0, altitude=500.0, output=("GGA",), **settings)


def read(gps):
    return pynmea2.parse(gps.get_output()[0], check=True)


age = read(receiver(fix=FixType.DGPS_FIX, last_dgps=2.5, dgps_station=120, geoid_sep=46.0)).age_gps_data


def driven(variation):
    simulator = Simulator(gps=receiver(kph=36.0, heading=90.0), heading_variation=variation)
    north = Geodesic.WGS84.Direct(48.0, 11.0, 0.0, 1000.0)
    simulator.target = north["lat2"], north["lon2"]
    list(simulator.get_output(50))
    gone = Geodesic.WGS84.Inverse(48.0, 11.0, simulator.gps.lat, simulator.gps.lon)
    return round(gone["s12"]), round(gone["azi1"]) % 360


ways = driven(1e-9), driven(0)

still = Simulator(gps=receiver(), static=True)
still.interval = still.step = 0.5
sent = io.StringIO()
still.serve(sent, blocking=False)
time.sleep(3.2)
still.kill()
stamps = [pynmea2.parse(line).timestamp for line in sent.getvalue().split()]

gps = receiver()
fixes = []
for satellites in 12, 3, 12:
    gps.num_sats = satellites
    fixes.append(read(gps).gps_qual)

times = len(set(stamps))
print("nmeasim", version("nmeasim"), "age", age, "metres, heading", ways, len(stamps), "sent", times, "times", "fixes", fixes)
same = age == "%06.3f" and ways == ((500, 0), (500, 90)) and len(stamps) > 2 and times == 1 and fixes == [1, 0, 0]
sys.exit(0 if same else "changed: the age of the corrections, the target, the static clock or the fix")
PYTHON
