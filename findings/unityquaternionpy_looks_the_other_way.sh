#!/usr/bin/env bash
# UnityQuaternionPy 0.1.2, quaternions as in Unity's simulators, for poses in and out of them:
# 1. eulerAngles within 8 degrees of straight down or up is straight UP or DOWN, the other way, and the heading is gone: the test for
#    the singularity is wide, and its two cases have each other's sign. A camera that looks steeply down comes back looking
#    into the sky. Euler, the way back, is right.
# 2. Angle(a, b) is up to 360 degrees where the signs differ, of equal orientations, too; Unity's is 180 at most. Lerp and Slerp go the
#    long way round there, Unity's the short one.
# Seen here: Euler(81, 30, 20) comes back as (81, 30, 20), Euler(82, 30, 20) as (270, 0, 9.8), Euler(-85, 30, 20) as (90, 0, 310.1).
# Half way from yaw 10 to yaw 20, negated, is 195.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q UnityQuaternionPy==0.1.2
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

from UnityQuaternion import Quaternion

found = {pitch: [round(angle, 1) for angle in Quaternion.Euler(pitch, 30, 20).eulerAngles] for pitch in (81, 82, 90, -80, -85)}
first, second = Quaternion.Euler(0, 10, 0), Quaternion.Euler(0, 20, 0)
negated = Quaternion(-second.x, -second.y, -second.z, -second.w)
apart = [round(Quaternion.Angle(first, one), 3) for one in (second, negated)]
half = [[round(way(first, one, 0.5).eulerAngles[1], 3) for one in (second, negated)] for way in (Quaternion.Lerp, Quaternion.Slerp)]
print("UnityQuaternionPy", version("UnityQuaternionPy"), found, "apart:", apart, "half way:", half)
same = found[81] == [81, 30, 20] and found[82] == [270, 0, 9.8] and found[-85] == [90, 0, 310.1] and found[-80] == [280, 30, 20]
same = same and apart == [10, 350] and half == [[15, 195], [15, 195]]
sys.exit(0 if same else "changed: steep angles come back")
PYTHON
