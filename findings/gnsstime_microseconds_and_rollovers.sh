#!/usr/bin/env bash
# gnsstime 0.0.9, datetime with GPS weeks, for stamps of GNSS receivers:
# 1. The difference of two times has no fractions of a second: microseconds are subtracted from themselves. Epochs of 5 or 10 Hz
#    are 0 or 1 s apart, speeds by them infinite. gpswsec, the second of the week, has none either, mjd has.
# 2. from_gpsw(week, nrollover=2), for receivers whose week begins at 0 every 1024, adds 1024 DAYS for each.
# 3. from_gpsw(week, gpswd=1, tow=...) forgets tow.
# Seen here: 0.9 s - 0.1 s is 0 s; 0.9 s of a second: gpswsec 345600.0; week 352 after two rollovers, which is 2026-01-04,
# is 1992-05-14; day 1 with tow 100000 is midnight.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q gnsstime==0.0.9
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from datetime import datetime
from importlib.metadata import version

from gnsstime import gnsstime

late, early = (gnsstime(2026, 1, 1, 0, 0, 0, fraction) for fraction in (900_000, 100_000))
apart = (late - early).total_seconds()
true = (late.to_datetime() - early.to_datetime()).total_seconds()
whole = gnsstime.from_gpsw(2400)
rolled = gnsstime.from_gpsw(2400 - 2048, nrollover=2)
of_day = gnsstime.from_gpsw(2400, gpswd=1, tow=100_000.0)
print("gnsstime", version("gnsstime"), "apart:", apart, "by datetime:", true, "gpswsec:", late.gpswsec, "week 2400:", whole,
      "by rollovers:", rolled, "day 1, tow 100000:", of_day)  # fmt: skip
same = apart == 0 and true == 0.8 and late.gpswsec == 345600.0 and whole.date() == datetime(2026, 1, 4).date()
same = same and rolled.date() == datetime(1992, 5, 14).date() and (of_day.day, of_day.hour) == (5, 0)
sys.exit(0 if same else "changed: times have fractions, or rollovers weeks")
PYTHON
