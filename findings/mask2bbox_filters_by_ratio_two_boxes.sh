#!/usr/bin/env bash
# mask2bbox 0.0.28 makes boxes of the instance ids of a mask:
# 1. filter(by="ratio") looks at the first TWO boxes only, whatever the number of boxes: ratios come as rows of numbers where the
#    other values come as columns. All further boxes are dropped as if they did not fit, and the second box's id is compared in
#    the first one's place.
# 2. A box ends WITH its last row and column, and its size is the difference: everything is a pixel short, a strip one pixel wide
#    has area 0, and boxes that overlap by a pixel do not overlap.
# 3. remove_from_edge compares that last row with the image's height, which it never reaches: what is cut off at the right or the
#    bottom stays.
# Seen here, boxes of 10 x 10, 10 x 30, 10 x 5, 10 x 10 (in the lower right corner) and 5 x 13: area 81 of the first; ratio of 1
# and more, which three have: only number 1; away from the edge: all five.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q numpy==2.2.6 scipy==1.15.3 scikit-image==0.25.2 matplotlib==3.10.7
"$tmp/venv/bin/pip" install -q --no-deps mask2bbox==0.0.28
cd "$tmp"
venv/bin/python -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from mask2bbox._bboxes import BBoxes
from skimage import io

mask = np.zeros((40, 60), np.uint8)
for number, (top, bottom, left, right) in enumerate(
    ((2, 12, 2, 12), (20, 30, 10, 40), (2, 12, 20, 25), (30, 40, 50, 60), (20, 25, 45, 58)), 1
):
    mask[top:bottom, left:right] = number
io.imsave("mask.png", mask, check_contrast=False)
boxes = BBoxes.from_mask("mask.png")
areas = boxes.get("area")[:, 1].tolist()
true = [1 + i for i, ratio in enumerate(boxes.get("ratio")[1]) if ratio >= 1]
found = boxes.filter("ratio", np.greater_equal, 1.0).identities().tolist()
inside = boxes.remove_from_edge().identities().tolist()
print("mask2bbox", version("mask2bbox"), "areas:", areas, "ratio of 1 and more:", found, "of", true, "not at the edge:", inside)
same = areas == [81, 261, 36, 81, 48] and true == [1, 3, 4] and found == [1] and inside == [1, 2, 3, 4, 5]
sys.exit(0 if same else "changed: all boxes are filtered, or sizes whole")
PYTHON
