#!/usr/bin/env bash
# georinex 1.16.1, RINEX 3 observations: the seconds of an epoch are cut to whole microseconds after a division that is not
# exact: 1.15 s are read 1.149999 s. Nearly a third of the epochs at 20 Hz, and many at 10 Hz, are a microsecond early; at 1
# Hz none. To look for a time, or to join the table with another one by time, misses those, and xarray says that there is
# none. load(..., interval=0.1), every 0.1 s, compares these times: some epochs are left out and the one after it is taken, so
# that steps are 0.05 and 0.15 s, too; interval=0.05, all of them, is one less than all.
# Seen here, 100 epochs at 20 Hz, written with the format's seven decimals: 30 are off; with interval=0.1 there are steps of
# 0.05, 0.1 and 0.15 s; with 0.05 there are 99.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q georinex==1.16.1 numpy==2.2.6 xarray==2024.7.0 pandas==2.2.3
cd "$tmp"
venv/bin/python -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import georinex
import numpy as np

HEADER = (
    ("     3.03           OBSERVATION DATA    M", "RINEX VERSION / TYPE"),
    ("made                made                20260101 000000 UTC", "PGM / RUN BY / DATE"),
    ("  4177000.0000   855000.0000  4728000.0000", "APPROX POSITION XYZ"),
    ("G    1 C1C", "SYS / # / OBS TYPES"),
    ("     0.050", "INTERVAL"),
    ("  2026     1     1     0     0    0.0000000     GPS", "TIME OF FIRST OBS"),
    ("", "END OF HEADER"),
)
START = np.datetime64("2026-01-01T00:00:00")
lines = [f"{text:<60}{label}" for text, label in HEADER]
for number in range(100):
    lines += [f"> 2026 01 01 00 00 {number / 20:10.7f}  0  1", "G01  20000000.000"]
Path("drive.26o").write_text("\n".join(lines) + "\n")


def microseconds(**options):
    return (georinex.load("drive.26o", **options).time.values - START) // np.timedelta64(1, "us")


every = microseconds()
off = every - np.arange(100) * 50_000
tenth, all_of_them = microseconds(interval=0.1), microseconds(interval=0.05)
steps = sorted(set(np.round(np.diff(tenth) / 1e6, 2).tolist()))
print("georinex", version("georinex"), "epochs that are off:", np.count_nonzero(off), "by", set(off[off != 0].tolist()),
      "us, steps of interval=0.1:", steps, "epochs of interval=0.05:", len(all_of_them))  # fmt: skip
same = len(every) == 100 and np.count_nonzero(off) == 30 and off.min() == -1 and off.max() == 0
same = same and steps == [0.05, 0.1, 0.15] and len(all_of_them) == 99
sys.exit(0 if same else "changed: epochs have their times")
PYTHON
