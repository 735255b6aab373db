#!/usr/bin/env bash
# gnss_lib_py 1.1.0:
# 1. Nmea(path): RMC has the speed over ground in KNOTS. vx_rx_mps, by its name and in the library's list of names metres a
#    second, is that number as it is: a vehicle is nearly twice as fast as it was, and what is made of it, a Kalman filter's
#    motion or a distance, is as well.
# 2. With include_ecef=True, GGA's height above mean SEA LEVEL is taken for one above the ellipsoid; the separation of the
#    two, which GGA has and the table keeps as geo_sep, is not added. x, y and z are too near to the Earth's centre by that,
#    47 m here.
# 3. geodetic_to_ecef and ecef_to_geodetic take positions as rows or as columns. THREE positions as rows, the antennas of a
#    vehicle, are read as columns, latitudes from one position and longitudes from the next one; two or four are right.
# Seen here: 10.0 knots are 10.0, 5.14 m/s in truth; the height of x, y, z is 500.0, of the sentence 500.0 + 46.9; the first
# of three positions at 48 degrees north is at (2855485, 6123263, 6284259), of two at (4190240, 852514, 4717283).
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q numpy==2.2.6 pandas==2.2.3 scipy==1.14.1 xarray==2024.7.0 matplotlib==3.10.0 plotly==5.24.1 \
    pynmea2==1.19.0 requests==2.32.3 unlzw3==0.2.3 hatanaka==2.8.1
"$tmp/venv/bin/pip" install -q --no-deps gnss_lib_py==1.1.0 georinex==1.16.1 # their other libraries draw maps
cd "$tmp"
venv/bin/python -W ignore - <<'PYTHON'
import sys
from functools import reduce
from importlib.metadata import version
from pathlib import Path

import numpy as np
from gnss_lib_py.parsers.nmea import Nmea
from gnss_lib_py.utils.coordinates import ecef_to_geodetic, geodetic_to_ecef

PLACES = np.array([[48.0, 11.5, 547], [48.1, 11.6, 547], [48.2, 11.7, 547], [48.3, 11.8, 547]])


def sentence(text):
    return f"${text}*{reduce(lambda code, letter: code ^ ord(letter), text, 0):02X}"


lines = []
for second in range(4):
    time, place = f"12000{second}.00", "4800.0000,N,01130.0000,E"
    lines.append(sentence(f"GPGGA,{time},{place},1,08,0.9,500.0,M,46.9,M,,"))
    lines.append(sentence(f"GPRMC,{time},A,{place},10.0,90.0,311225,,,A"))
Path("drive.nmea").write_text("\n".join(lines) + "\n")
drive = Nmea("drive.nmea", include_ecef=True)
speed = float(drive["vx_rx_mps"][0])
first = np.array([[drive[f"{axis}_rx_m"][0] for axis in "xyz"]])
height = round(float(ecef_to_geodetic(first)[0, 2]), 1)
two, three, four = (np.round(geodetic_to_ecef(PLACES[:count])[0]).astype(int).tolist() for count in (2, 3, 4))
print("gnss_lib_py", version("gnss_lib_py"), "10 knots:", speed, "m/s; height of 500.0 + 46.9:", height,
      "first of 2, 3, 4 positions:", two, three, four)  # fmt: skip
same = speed == 10 and height == 500 and two == four == [4190240, 852514, 4717283] and three == [2855485, 6123263, 6284259]
sys.exit(0 if same else "changed: knots, heights or three positions")
PYTHON
