#!/usr/bin/env bash
# Three converters between YOLO's and LabelMe's labels, each of which knows one of the two kinds of shapes, and does not say so:
# 1. yolo2labelme 0.0.7 takes a line of five numbers, a BOX (class, centre, size), for a polygon of two points: a line from the
#    centre to where the size would be a place.
# 2. yolo-to-labelme 0.0.8 reads boxes rightly; of a POLYGON it makes a single point of all its numbers, each cut to a whole
#    number before it is scaled: 0, 0, 0, 0 ...
# 3. labelme-to-yolo 0.2.1 leaves out rectangles: an image whose objects were drawn as such has no label file, which
#    means an empty scene to the training.
# Seen here, an image of 100 x 200, class 1: a box in the middle, 0.2 x 0.4, is [[50, 100], [20, 80]] by the first and
# [[40, 60], [60, 140]] by the second; the triangle 0.1 0.1 0.9 0.1 0.5 0.9 [[10, 20], [90, 20], [50, 180]] and
# [[0, 0, 0, 0, 0, 0]]; of ten images with a polygon and a rectangle each, ten polygons come back.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q yolo2labelme==0.0.7 yolo-to-labelme==0.0.8 labelme-to-yolo==0.2.1 pillow==12.0.0 pyyaml==6.0.3
cd "$tmp"
venv/bin/python -W ignore - <<'PYTHON'
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from PIL import Image
from yolo2labelme import yolo2labelme_single
from yolotolabelme import convert_yolo_to_labelme

BOX, TRIANGLE = "1 0.5 0.5 0.2 0.4", "1 0.1 0.1 0.9 0.1 0.5 0.9"
for folder in ("yolo", "labelme"):
    Path(folder).mkdir()
Path("yolo/a.txt").write_text(f"{BOX}\n{TRIANGLE}\n")
Image.new("RGB", (100, 200)).save("a.png")
yolo2labelme_single("yolo/a.txt", "a.png", ["person", "car"], "first")
convert_yolo_to_labelme("yolo", "second", 100, 200, {0: "person", 1: "car"}, ".png")
first, second = (
    [[[round(value) for value in point] for point in shape["points"]] for shape in json.loads(Path(one, "a.json").read_text())["shapes"]]
    for one in ("first", "second")
)
shapes = [
    {"label": "car", "points": [[10, 20], [90, 20], [50, 180]], "shape_type": "polygon"},
    {"label": "person", "points": [[40, 60], [60, 140]], "shape_type": "rectangle"},
]
for i in range(10):
    Image.new("RGB", (100, 200)).save(f"labelme/{i}.png")
    Path(f"labelme/{i}.json").write_text(json.dumps({"shapes": shapes, "imageHeight": 200, "imageWidth": 100}))
command = ["venv/bin/python", "-m", "labelme_to_yolo", "--source-path", "labelme", "--output-path", "third"]
subprocess.run(command, check=True)
lines = [line for file in Path("third/labels").rglob("*.txt") for line in file.read_text().splitlines()]
print({name: version(name) for name in ("yolo2labelme", "yolo-to-labelme", "labelme-to-yolo")}, first, second, len(lines), "of 20 shapes")
polygon = [[10, 20], [90, 20], [50, 180]]
same = first == [[[50, 100], [20, 80]], polygon] and second == [[[40, 60], [60, 140]], [[0] * 6]]
sys.exit(0 if same and len(lines) == 10 and all(len(line.split()) == 7 for line in lines) else "changed: both kinds are converted")
PYTHON
