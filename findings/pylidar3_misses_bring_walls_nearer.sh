#!/usr/bin/env bash
# PyLidar3 1.6 reads the YDLIDAR X4 and G4. StartScanning gives a distance for each whole degree, of some turns in one:
# 1. A beam without an echo, distance 0, is AVERAGED with those that have one. A wall at 4 m that answers on every other turn,
#    as dark paint and slanting walls do, is at 1.3 to 2.7 m, where nothing is; without any echo it is 0.
# 2. Its text says metres; they are millimetres.
# 3. A packet is looked for by its first two bytes, AA 55, within the samples, too: of each packet in which one beam is
#    5,482.5 mm long, whose bytes these are, ALL 40 beams are gone, and nothing is said.
# 4. Each beam's angle has to be corrected by its own distance (the laser sits beside the lens). Only the first and the last
#    one of a packet are; the others lie evenly in between, and the last but by one step. Behind something near, beams are 3.7
#    degrees off.
# lds2d 0.7.0, which reads the same packets, has 4 as the manufacturer does.
# Seen here: walls at 4 m all round, every other turn without an echo: 1333 to 2666; walls at 5,482 mm: 360 degrees of 360,
# with one beam of 40 at 5,482.5: none; a first beam at 0.3 m, 39 at 4 m: the second is at 36.52 degrees, with lds2d at 32.83.
# The serial port is stood in for. Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q PyLidar3==1.6 lds2d==0.7.0 pyserial==3.5
"$tmp/venv/bin/python" - <<'PYTHON'
import struct
import sys
from functools import reduce
from importlib.metadata import version
from operator import xor

from lds2d.drivers.ydlidar import YDLidarX4
from PyLidar3 import YdLidarX4

BEAMS, STEP = 40, 0.5  # of a packet, and degrees


def packet(first, distances):
    """X4's packet of samples, in mm, from an angle in degrees."""
    samples = [round(distance * 4) for distance in distances]
    ends = [round(angle * 64) << 1 | 1 for angle in (first, first + STEP * (len(samples) - 1))]
    check = reduce(xor, samples, 0x55AA ^ len(samples) << 8 ^ ends[0] ^ ends[1])
    return struct.pack(f"<HBB3H{len(samples)}H", 0x55AA, 0, len(samples), *ends, check, *samples)


def turn(distances):
    return b"".join(packet(angle, distances) for angle in range(0, 360, 20))


class Port:
    def __init__(self, data):
        self.data = data

    def read(self, size):
        if size == 7:  # the answer to the command
            return bytes(7)
        data, self.data = self.data[:size], self.data[size:]
        return data

    def write(self, _):
        pass

    setDTR = write

    def reset_input_buffer(self):
        pass


def scanned(*turns):
    """Distances by degree, of all turns; the last packet of a read is left out, as it may be cut."""
    lidar = YdLidarX4("none")
    lidar._s, lidar._is_connected = Port(b"".join(turns) + packet(0, [0])), True
    return next(lidar.StartScanning())


steady = scanned(turn([4000] * BEAMS))
blinking = [value for value in scanned(turn([4000] * BEAMS), turn([0] * BEAMS)).values() if value not in (0, 4000)]
plain = sum(value > 0 for value in scanned(turn([5482] * BEAMS)).values())
marked = sum(value > 0 for value in scanned(turn([5482] * 20 + [5482.5] + [5482] * 19)).values())
near = packet(40, [300] + [4000] * 39)
driver = YDLidarX4(None)
second = round(YdLidarX4._Calculate(near[2:])[1][1], 2), round(driver._try_parse(bytearray(near))[1][1][1].angle_deg, 2)
print("PyLidar3", version("PyLidar3"), "at 4 m:", set(steady.values()), "every other turn:", sorted(set(blinking)),
      "at 5,482 mm:", plain, "with one of 5,482.5:", marked, "second beam, and with lds2d:", second)  # fmt: skip
same = set(steady.values()) == {4000} and len(blinking) > 200 and all(1300 < value < 2700 for value in blinking)
same = same and (plain, marked) == (360, 0) and second == (36.52, 32.83)
sys.exit(0 if same else "changed: another distance or angle")
PYTHON
