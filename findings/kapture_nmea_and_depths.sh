#!/usr/bin/env bash
# kapture 1.1.12 (NAVER's format for localisation, and converters to it):
# 1. extract_gnss_from_nmea knows the sentences of ONE talker, GP. Receivers of several systems, which today's are, say GN: the
#    import is empty and nothing is said. So it is with times without decimals, hhmmss.
# 2. Decimals of a second are taken for milliseconds however many they are: of four, hhmmss.ssss, half a second is five.
# 3. The date is that of the last RMC, and a receiver sends GGA before RMC: the first position of a day is a day too early.
# 4. kapture_export_depth_images -r MIN MAX (without -r it raises) does not cut depths off at the ends: what is farther
#    runs over 16 bits, so that 20 m of a range up to 5 m is darker than 4 m, and what is nearer is far.
# Seen here: GN: no records; 12:00:00.2500 is 12:00:02.5; 2026-01-01 00:00:00 is 2025-12-31 00:00:00; with -r 1 5
# depths of 1, 4, 20 and 0.5 m are 0, 48768, 46724 and 57408.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q kapture==1.1.12
cd "$tmp"
PATH="$tmp/venv/bin:$PATH" python -W ignore - <<'PYTHON'
import subprocess
import sys
from datetime import datetime, timezone
from functools import reduce
from importlib.metadata import version
from pathlib import Path

import kapture
import numpy as np
from kapture.converter.nmea.import_nmea import extract_gnss_from_nmea
from kapture.io.csv import kapture_to_dir
from kapture.io.records import depth_map_to_file
from PIL import Image

PLACE = "4800.0000,N,01130.0000,E"
DEPTHS = np.array([[1, 4], [20, 0.5]], np.float32)


def sentence(text):
    return f"${text}*{reduce(lambda code, letter: code ^ ord(letter), text, 0):02X}"


def times(talker, *epochs):
    """The times of the positions that are read of (hhmmss, ddmmyy), GGA and then RMC each."""
    lines = []
    for time, date in epochs:
        lines.append(sentence(f"{talker}GGA,{time},{PLACE},1,08,0.9,500.0,M,46.9,M,,"))
        lines.append(sentence(f"{talker}RMC,{time},A,{PLACE},0.0,0.0,{date},,"))
    Path("nmea.txt").write_text("\n".join(lines) + "\n")
    _, records = extract_gnss_from_nmea("nmea.txt")
    return [
        datetime.fromtimestamp(time / 1e9, timezone.utc).strftime("%m-%d %H:%M:%S.%f")[:-3] for time in sorted(records)
    ]


DAY, NEXT = "311225", "010126"
usual = times("GP", ("120000.00", DAY), ("120000.25", DAY))
several = times("GN", ("120000.00", DAY), ("120000.25", DAY))
fourth = times("GP", ("120000.0000", DAY), ("120000.2500", DAY))
midnight = times("GP", ("235959.00", DAY), ("000000.00", NEXT))

data = kapture.Kapture(sensors=kapture.Sensors(), records_depth=kapture.RecordsDepth())
data.sensors["camera"] = kapture.create_sensor("depth", ["SIMPLE_PINHOLE", 2, 2, 100, 1, 1])
Path("drive/sensors/records_data").mkdir(parents=True)
data.records_depth[0, "camera"] = "one.depth"
depth_map_to_file("drive/sensors/records_data/one.depth", DEPTHS)
kapture_to_dir("drive", data)
command = ["kapture_export_depth_images", "-q", "-i", "drive", "-o", "out", "-r", "1", "5"]
subprocess.run(command, check=True, capture_output=True)
depths = np.array(Image.open("out/one.depth.png")).ravel().tolist()
print("kapture", version("kapture"), "GP:", usual, "GN:", several, "four decimals:", fourth, "midnight:", midnight,
      "depths:", depths)  # fmt: skip
same = usual == ["12-31 12:00:00.250"] and several == [] and fourth == ["12-31 12:00:02.500"]
same = same and midnight == ["12-31 00:00:00.000"] and depths == [0, 48768, 46724, 57408]
sys.exit(0 if same else "changed: NMEA has its times, or depths their order")
PYTHON
