#!/usr/bin/env bash
# label_convert 0.3.0 (opencv-python-headless 4.11.0.86, pycocotools 2.0.10), labelme's outlines to COCO:
# 1. bbox of a polygon is made of two corners of the smallest rectangle that is TURNED with it. COCO's is upright. Of an
#    outline that stands upright it is right; of a slanting one, a pole that leans, a car or a lane in perspective, it is too
#    small, and may have no width at all: detectors learn it, or leave it out as empty.
# 2. segmentation is the list of points as labelme has it, [[x, y], ...]. COCO has a list of polygons, [[x, y, x, y, ...],
#    ...], so that each POINT is an outline of its own, and pycocotools raises TypeError as soon as a mask is asked for.
# Seen here: a diamond from (20, 20) to (180, 180): bbox (100, 20, 0, 160); a slanting bar from (10, 20) to (120, 85), 65 high
# and 110 wide: (20, 20, 90, 65); an upright rectangle's four corners as a polygon: (20, 20, 100, 40).
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q numpy==2.2.6 opencv-python-headless==4.11.0.86 tqdm==4.67.1 PyYAML==6.0.2 pycocotools==2.0.10
"$tmp/venv/bin/pip" install -q --no-deps label_convert==0.3.0
cd "$tmp"
venv/bin/python -W ignore - <<'PYTHON'
import json
import sys
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from label_convert.labelme_to_coco import LabelmeToCOCO
from pycocotools import mask

OUTLINES = {
    "diamond": [[100, 20], [180, 100], [100, 180], [20, 100]],
    "bar": [[20, 20], [120, 60], [110, 85], [10, 45]],
    "upright": [[20, 20], [120, 20], [120, 60], [20, 60]],
}
Path("made").mkdir()
shapes = [{"label": name, "shape_type": "polygon", "points": points} for name, points in OUTLINES.items()]
for number in range(2):  # one of them is for validation
    cv2.imwrite(f"made/{number}.jpg", np.zeros((200, 200, 3), np.uint8))
    label = {"shapes": shapes, "imagePath": f"{number}.jpg", "imageHeight": 200, "imageWidth": 200}
    Path(f"made/{number}.json").write_text(json.dumps(label))
LabelmeToCOCO("made", "coco", val_ratio=0.5)()
data = json.loads(Path("coco/annotations/instances_train2017.json").read_text())
names = {category["id"]: category["name"] for category in data["categories"]}
boxes = {names[object_["category_id"]]: object_["bbox"] for object_ in data["annotations"]}
segmentation = data["annotations"][0]["segmentation"]
try:
    pixels = int(mask.decode(mask.merge(mask.frPyObjects(segmentation, 200, 200))).sum())
except Exception as error:  # whatever pycocotools says of it
    pixels = type(error).__name__
print("label_convert", version("label_convert"), boxes, "segmentation:", segmentation, "pixels by pycocotools:", pixels)
same = boxes == {"diamond": [100, 20, 0, 160], "bar": [20, 20, 90, 65], "upright": [20, 20, 100, 40]}
same = same and segmentation == OUTLINES["diamond"] and (pixels == 0 or isinstance(pixels, str))
sys.exit(0 if same else "changed: boxes are upright")
PYTHON
