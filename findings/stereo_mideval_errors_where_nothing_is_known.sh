#!/usr/bin/env bash
# stereo-mideval 1.0.28 reads Middlebury's stereo scenes of 2014 and evaluates disparities by its metrics:
# 1. Pixels without ground truth, inf in the files, count: their disparity is taken for 0. A method that is right everywhere and
#    fills the holes is wrong in all of them; one that gives up there (inf, NaN) is right. Middlebury leaves them out of
#    all its metrics. It is so for bad pixels, average error, rms and quantiles.
# 2. load_cal reads the baseline's whole millimetres only: depths of load_scene_data are up to half a percent too small.
# 3. normalise_disp and colormap_disp, for drawing, set the negative disparities of the caller's array to 0.
# Seen here, a fifth of the pixels unknown: right everywhere 20 % bad pixels, 10 px average error; given up where nothing is known
# 0 %; baseline=177.888 is 177; drawn, (-5, 3) is (0, 3).
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q numpy==2.2.6 opencv-python-headless==4.12.0.88 requests==2.32.3 beautifulsoup4==4.12.3 \
    setuptools==80.9.0 wget==3.2
"$tmp/venv/bin/pip" install -q --no-deps stereo-mideval==1.0.28
cd "$tmp"
venv/bin/python -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from stereomideval import colormap_disp
from stereomideval.dataset import Dataset
from stereomideval.eval import Metric

Path("calib.txt").write_text(
    "cam0=[5299.313 0 1263.818; 0 5299.313 977.763; 0 0 1]\ncam1=[5299.313 0 1438.004; 0 5299.313 977.763; 0 0 1]\n"
    "doffs=174.186\nbaseline=177.888\nwidth=2988\nheight=2008\nndisp=180\n"
)
baseline = Dataset.load_cal("calib.txt").baseline
truth, filled = np.full((10, 10), 50.0), np.full((10, 10), 50.0)
truth[:, :2] = np.inf
given_up = truth.copy()
errors = [(Metric.calc_bad_pix_error(truth, one), float(Metric.calc_avgerr(truth, one))) for one in (filled, given_up)]
drawn = np.array([[-5.0, 3.0]])
colormap_disp(drawn)
print("stereo-mideval", version("stereo-mideval"), "right everywhere:", errors[0], "given up:", errors[1], "baseline:", baseline,
      "drawn:", drawn.tolist())  # fmt: skip
same = errors == [(20, 10), (0, 0)] and baseline == 177 and drawn.tolist() == [[0, 3]]
sys.exit(0 if same else "changed: pixels without ground truth do not count")
PYTHON
