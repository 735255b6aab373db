#!/usr/bin/env bash
# expelliarmus 1.1.12 reads and writes the event cameras' EVT 3.0 (.raw), the format of the current ones. Time is 24 bits there: a
# word sets the upper 12 (EVT_TIME_HIGH), another one the lower 12, which start again every 4096 us.
# 1. Reading: each time the lower bits start again one is added to the upper ones, which the file's own word has raised already.
#    So time runs at twice its speed: one second of events lasts two, read_time_window ends after half of what it is asked for,
#    and rates, optical flow and the match with frames or an IMU are off by as much. Addresses and polarities are right.
# 2. Writing: there is ONE word for the upper bits in the whole file. Other readers have every event within the same 4.1 ms, and
#    expelliarmus, which errs the other way, gets its own file back, so that a test of the pair sees nothing. (Its issue 20.)
# 3. Time windows are microseconds, as the function's own text has it; its README says milliseconds, and shows a window of 5.
# DAT and EVT 2.0 are right in 1 and 2.
# Seen here, 20,000 events, one each 50 us, 0 to 999,950 us: words made by the format's description, with which faery 0.7.1
# agrees, end at 1,999,374 us; of expelliarmus' own file faery has nothing later than 4,094 us, from EVT 2.0 999,950 us; a
# window of 100,000 has 2,001 events of EVT 2.0, 100 ms, and 1,018 of EVT 3.0.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q expelliarmus==1.1.12 faery==0.7.1 numpy==2.4.6
cd "$tmp"
venv/bin/python - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import faery
import numpy as np
from expelliarmus import Wizard

TIMES = np.arange(20_000) * 50
HEADER = b"% evt 3.0\n% format EVT3;height=480;width=640\n% geometry 640x480\n% end\n"
words, high = [], -1
for time in TIMES.tolist():
    if time >> 12 != high:
        high = time >> 12
        words.append(0x8000 | high)
    words += [0x6000 | time & 0xFFF, 7, 0x2800 | 9]  # the lower time; y; x of a positive event
Path("made.raw").write_bytes(HEADER + np.array(words, "<u2").tobytes())
events = np.zeros(len(TIMES), [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1")])
events["t"], events["x"], events["y"], events["p"] = TIMES, 9, 7, 1
for encoding in ("evt2", "evt3"):
    Wizard(encoding=encoding).save(f"{encoding}.raw", events)


def own(encoding, path):
    return Wizard(encoding=encoding, fpath=path).read()["t"].astype(int)


def other(path):
    return faery.events_stream_from_file(path, dimensions_fallback=(640, 480)).to_array()["t"].astype(int)


made, made_other, back, written, older = (
    own("evt3", "made.raw"),
    other("made.raw"),
    own("evt3", "evt3.raw"),
    other("evt3.raw"),
    other("evt2.raw"),
)


def window(encoding, path):
    """Events in the first window of 100,000."""
    wizard = Wizard(encoding=encoding, fpath=path)
    wizard.set_time_window(100_000)
    return len(next(wizard.read_time_window()))


windows = window("evt2", "evt2.raw"), window("evt3", "made.raw")
print("expelliarmus", version("expelliarmus"), "faery", version("faery"), "last of made.raw:", made[-1], made_other[-1],
      "of its own file:", back[-1], written.max(), "as EVT 2.0:", older[-1], "in a window:", windows)  # fmt: skip
same = np.array_equal(made_other, TIMES) and np.array_equal(older, TIMES) and np.array_equal(back, TIMES)
same = same and made[-1] == TIMES[-1] + TIMES[-1] // 4096 * 4096 and written.max() < 4096 and windows == (2001, 1018)
sys.exit(0 if same else "changed: EVT 3.0 has its own times with expelliarmus")
PYTHON
