#!/usr/bin/env bash
# pycalib-simple 2026.7.22.1 (module pycalib), calibration of several cameras:
# 1. estimate_offset, how many frames cameras are apart, from time codes seen in their images: with fps given the frame numbers
#    are subtracted from seconds as they are. It is right only where all cameras saw the code in frames of the same numbers.
#    Without fps, where it is estimated, it is right.
# 2. StereoPair(K1, d1, ...) rectifies images "in the unrectified camera" without d1 and d2: the lenses' distortion stays in.
# 3. Its rectified_P1, P2 and t2 at its default, scale=2: focal lengths and centres are doubled, the last column, which is
#    focal length times baseline, is not: who triangulates with them has everything at half its distance. (Its own
#    triangulate_pts uses other matrices and is right.)
# Seen here: a camera that began a second later at 30 Hz, the code in frames 0-29 of one and 90-119 of the other: 30 frames,
# with fps=30 -2580; a pixel that the lens shows at (507.6, 357.3) is looked up at (520.2, 364.8); a point 2 m away is 1 m away.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q numpy==2.2.6 scipy==1.15.3 opencv-contrib-python-headless==4.12.0.88 scikit-image==0.25.2 \
    matplotlib==3.10.7 tqdm==4.67.1 pyyaml==6.0.3 python-dateutil==2.9.0.post0 pandas==2.2.3
"$tmp/venv/bin/pip" install -q --no-deps pycalib-simple==2026.7.22.1
"$tmp/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import cv2
import numpy as np
from pycalib.stereo import StereoPair
from pycalib.timestamp import estimate_offset

RATE = 30
frames = [np.arange(30), np.arange(90, 120)]
seconds = [1000 + frames[0] / RATE, 1001 + frames[1] / RATE]
free, given = (estimate_offset(frames, seconds, **more)[0][1] for more in ({}, {"fps": RATE}))

matrix, lens = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]), np.array([-0.3, 0.1, 0, 0, 0])
beside = np.array([[-0.5], [0], [0]])
point = np.array([0.8, 0.5, 2.0])
pair = StereoPair(matrix, lens, (640, 480), np.eye(3), np.zeros((3, 1)), matrix, lens, (640, 480), np.eye(3), beside)
left, right = (view @ one for view, one in ((pair.rectified_K1, point), (pair.rectified_K2, point + beside[:, 0])))
left, right = left[:2] / left[2], right[:2] / right[2]
column, row = np.rint(left).astype(int)
shown = cv2.projectPoints(point, np.zeros(3), np.zeros(3), matrix, lens)[0].ravel()
without = cv2.projectPoints(point, np.zeros(3), np.zeros(3), matrix, None)[0].ravel()
looked = np.array([pair.map1_x[row, column], pair.map1_y[row, column]])
four = cv2.triangulatePoints(pair.rectified_P1, pair.rectified_P2, left[:, None], right[:, None])
depth, own = (four[2] / four[3]).item(), pair.triangulate_pts(left[None], right[None])[0, 2]
print("pycalib-simple", version("pycalib-simple"), "frames:", free.round(2), "with fps:", given.round(2), "shown at:", shown.round(1),
      "looked up at:", looked.round(1), "depth by P1 and P2:", round(depth, 3), "its own:", own.round(3))  # fmt: skip
same = abs(free - 30) < 0.01 and abs(given + 2580) < 0.01
same = same and np.abs(looked - without).max() < 1 and np.abs(looked - shown).max() > 10
sys.exit(0 if same and abs(depth - 1) < 1e-6 and abs(own - 2) < 1e-6 else "changed: frames are seconds, or lenses rectified")
PYTHON
