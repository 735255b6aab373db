#!/usr/bin/env bash
# lc29h 2026.2.27, a reader of Quectel's GNSS receivers of two bands: NMEAStream takes the first GPGSV of a group for a new epoch,
# but the receiver sends one group for L1 and then one for L5, and at the second the first is thrown away. The satellites of GPS
# without L5 are gone, the others are there once, with the weaker signal. GSA's numbers are kept without their system, so
# Galileo 5 counts as used where GPS 5 is; and signal 7 of Galileo, E1 by NMEA 0183 4.11, is called E5a and 1 is called E1.
# Seen here: 5 satellites of GPS on L1, 2 of them on L5 too, 4 of Galileo on signal 7: the list has 6 entries, no L1 at all, and of
# Galileo 3, 13 (in its GSA), 5 and 12 (in that of GPS) are used, on "E5a".
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-deps lc29h==2026.2.27
"$tmp/venv/bin/pip" install -q pydantic==2.11.7
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from functools import reduce
from importlib.metadata import version

from lc29h.parser import NMEAStream

EPOCH = [
    "GNGGA,120000.000,5233.0000,N,01327.0000,E,1,06,0.8,40.0,M,44.0,M,,",
    "GNGSA,A,3,05,12,25,29,,,,,,,,,1.5,0.8,1.2,1",  # system 1: GPS
    "GNGSA,A,3,03,13,,,,,,,,,,,1.5,0.8,1.2,3",  # system 3: Galileo
    "GPGSV,2,1,05,05,60,100,45,12,40,200,42,25,30,300,40,29,20,050,38,1",  # signal 1: L1 C/A
    "GPGSV,2,2,05,31,10,020,22,1",
    "GPGSV,1,1,02,25,30,300,36,12,40,200,37,8",  # signal 8: L5
    "GAGSV,1,1,04,03,50,090,41,13,30,180,39,05,08,250,20,12,05,010,15,7",  # signal 7: E1
]


def sentence(body):
    """The line with its checksum."""
    return f"${body}*{reduce(lambda total, letter: total ^ ord(letter), body, 0):02X}"


stream = NMEAStream()
for line in EPOCH * 2 + EPOCH[:1]:
    stream.parse_line(sentence(line))
seen = [(one.constellation.name, one.prn, one.band, one.used_in_fix) for one in stream.satellites]
print("lc29h", version("lc29h"), "satellites:", seen)
expected = [("GPS", 25, "L5", True), ("GPS", 12, "L5", True)]
expected += [("GALILEO", number, "E5a", True) for number in (3, 13, 5, 12)]
sys.exit(0 if seen == expected else "changed: both bands are there")
PYTHON
