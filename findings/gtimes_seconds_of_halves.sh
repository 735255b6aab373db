#!/usr/bin/env bash
# gtimes 0.6.0, GPS weeks to dates and back for GNSS stations: UTCFromGps(week, seconds) adds the fraction of the second twice, once
# before the time is split and once after. Every epoch whose fraction is a half or more is one second late; at 10 Hz
# five of ten. gpsFromUTC goes through the time zone of the machine, in 1980 and now: where its offset has changed since, as in
# Singapore in 1982 (7 h 30 min, then 8 h), all GPS times are off by the change, both ways.
# Seen here: week 2112, 302418.4 s is 12:00:00.4 and 302418.5 s is 12:00:01.5; in Singapore 12:00:00 UTC is 300618 s, 30 min early.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-deps gtimes==0.6.0
"$tmp/venv/bin/pip" install -q python-dateutil==2.9.0.post0 tzdata==2025.2
"$tmp/venv/bin/python" - <<'PYTHON'
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

import tzdata
from gtimes.gpstime import UTCFromGps, gpsFromUTC

found = {}
# The zones of the package tzdata, as the machine may have none.
os.environ["TZDIR"] = str(Path(tzdata.__file__).parent / "zoneinfo")
for zone in ("UTC", "Asia/Singapore"):
    os.environ["TZ"] = zone
    time.tzset()
    found[zone] = gpsFromUTC(2020, 7, 1, 12, 0, 0, leapSecs=18)[:2]
os.environ["TZ"] = "UTC"
time.tzset()
seconds = [round(UTCFromGps(2112, 302418 + tenth / 10, leapSecs=18)[5], 3) for tenth in range(10)]
print("gtimes", version("gtimes"), "12:00 UTC is:", found, "ten epochs from 302418 s:", seconds)
same = found == {"UTC": (2112, 302418.0), "Asia/Singapore": (2112, 300618.0)}
late = [0.0, 0.1, 0.2, 0.3, 0.4, 1.5, 1.6, 1.7, 1.8, 1.9]
sys.exit(0 if same and seconds == late else "changed: seconds and zones are right")
PYTHON
