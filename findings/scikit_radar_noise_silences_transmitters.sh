#!/usr/bin/env bash
# scikit-radar 0.0.2, a simulator of FMCW radars with several antennas: the noisy signals are filled for the first transmitter
# only. All others have neither noise nor echo in s_if_noisy, while they are in s_if, and range profiles and images made with noise
# (the default) have the angular resolution of one transmitter. doppler_processing computes its window and does not apply it.
# Seen here, 3 transmitters, one target at 3 m: of s_if all 3 have echoes, of s_if_noisy and rp_noisy only the first is not 0; the
# range-Doppler map by "hann", by "blackman" and by "boxcar" is the same to the last bit.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-deps scikit-radar==0.0.2
"$tmp/venv/bin/pip" install -q numpy==2.2.6 scipy==1.15.3 matplotlib==3.10.3 pytransform3d==3.14.2
export MPLBACKEND=Agg MPLCONFIGDIR="$tmp"
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import skradar

transmitters = np.array([[-0.01, 0.0, 0.01], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
receivers = np.array([[-0.002, 0.002], [0.0, 0.0], [0.0, 0.0]])
radar = skradar.FMCWRadar(
    B=1e9, fc=76.5e9, N_f=128, N_s=8, T_f=1e-6, T_s=2e-4, tx_pos=transmitters, rx_pos=receivers, pos=np.zeros((3, 1)), name="radar"
)
target = skradar.Target(rcs=1.0, pos=np.array([[0.0], [0.0], [3.0]]), vel=np.array([[0.0], [0.0], [0.7]]), name="target")
scene = skradar.Scene([radar], [target])
radar.sim_chirps()
radar.range_compression(zp_fact=2)


def with_signal(signals):
    """Which transmitters have any."""
    return [bool(np.abs(one).max() > 0) for one in signals]


found = [with_signal(signals) for signals in (radar.s_if, radar.s_if_noisy, radar.rp_noisy)]
maps = []
for window in ("hann", "blackman", "boxcar"):
    radar.doppler_processing(win_doppler=window)
    maps.append(radar.rd)
alike = [bool(np.array_equal(maps[0], one)) for one in maps[1:]]
print("scikit-radar", version("scikit-radar"), "signals in s_if, s_if_noisy, rp_noisy:", found, "windows alike:", alike)
same = found == [[True] * 3, [True, False, False], [True, False, False]] and alike == [True, True]
sys.exit(0 if same else "changed: all transmitters have noise, or windows work")
PYTHON
