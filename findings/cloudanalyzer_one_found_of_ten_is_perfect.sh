#!/usr/bin/env bash
# cloudanalyzer 0.6.0, evaluate_detection (`ca` on the command line), scores 3D boxes by mean average precision, mAP, the area
# below precision over recall. The area goes on to recall 1 at the LAST precision, where no detection has ever been: what is
# not found costs nothing. One right box where there are ten cars has an AP of 1. So a detector looks the better the fewer
# boxes it gives: a threshold of scores that is set higher raises mAP, and a gate on min_map lets through what is nearly
# blind. Precision, recall and F1 beside it are right.
# Seen here: of ten cars one is found and the rest are not: mAP 1.0, recall 0.1; the usual area, as of Pascal VOC and COCO, is
# 0.1. All ten, with nine boxes between them that are none: mAP 0.607, recall 1, the usual area 0.607, less than for the one.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q numpy==2.2.6
"$tmp/venv/bin/pip" install -q --no-deps cloudanalyzer==0.6.0 # its other libraries read clouds and draw
cd "$tmp"
venv/bin/python - <<'PYTHON'
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ca.detection import evaluate_detection


def car(place, score=1.0):
    return {"label": "car", "center": [place, 0, 0], "size": [4, 2, 1.5], "score": score}


def write(name, boxes):
    Path(name).write_text(json.dumps({"frames": [{"frame_id": "0", "boxes": boxes}]}))


def result(found):
    """mAP and recall at an IoU of 0.5."""
    write("found.json", found)
    scored = evaluate_detection("found.json", "truth.json", iou_thresholds=[0.5])
    return round(scored["threshold_results"][0]["map"], 3), scored["threshold_results"][0]["recall"]


def area(hits, truths=10):
    """Average precision as usual: under the envelope of precision, up to the recall that was reached."""
    hits = np.array(hits)
    precision, recall = hits.cumsum() / np.arange(1, len(hits) + 1), hits.cumsum() / truths
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return round(float((np.diff(recall, prepend=0) * envelope).sum()), 3)


write("truth.json", [car(10 * number) for number in range(10)])
one = result([car(0)])
turns = [car(10 * (number // 2) + (500 if number % 2 else 0), 1 - number / 100) for number in range(19)]
mixed = result(turns)
usual = area([1]), area([number % 2 == 0 for number in range(19)])
print("cloudanalyzer", version("cloudanalyzer"), "one of ten, mAP and recall:", one, "ten and nine wrong ones:", mixed,
      "usual areas:", usual)  # fmt: skip
same = one == (1.0, 0.1) and usual[0] == 0.1 and mixed == (usual[1], 1.0) and mixed[0] < one[0]
sys.exit(0 if same else "changed: what is not found costs")
PYTHON
