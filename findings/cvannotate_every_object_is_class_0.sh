#!/usr/bin/env bash
# cvannotate 1.0.0 converts labels between Pascal VOC, YOLO and COCO:
# 1. From VOC every object is class 0, whatever its name and whatever list of classes is given with -c: the class is looked
#    for in an element that VOC has not (name_id), and that cvannotate's own VOC files have not either. A data set of cars,
#    people and poles is one of cars, boxes right, nothing said.
# 2. From COCO the category_id is YOLO's class as it is. COCO's begin with 1 and have gaps (its 80 classes go up to 90),
#    YOLO's begin with 0 and index the list: everything is one class further on, and the last one is beyond the list.
# Seen here: VOC with car, person and pole and -c car,person,pole: classes 0, 0, 0; COCO with categories car = 1, person = 2,
# pole = 3: 1, 2, 3, where the list has 0, 1, 2.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q cvannotate==1.0.0
cd "$tmp"
PATH="$tmp/venv/bin:$PATH" python - <<'PYTHON'
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

CLASSES = ("car", "person", "pole")
BOXES = ((10, 20, 60, 50), (70, 20, 80, 50), (90, 10, 94, 60))  # x and y of two corners


def classes(source, form):
    """YOLO's classes of what cvannotate makes of a file."""
    command = ["cvannotate", "convert", "-i", source, "-o", form, "--from-format", form, "-f", "yolo", "-c", ",".join(CLASSES)]
    subprocess.run(command, check=True, capture_output=True)
    (made,) = Path(form).glob("*.txt")
    return [int(line.split()[0]) for line in made.read_text().splitlines()]


objects = "".join(
    f"<object><name>{name}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
    for name, (x, y, right, bottom) in zip(CLASSES, BOXES)
)
size = "<size><width>100</width><height>100</height><depth>3</depth></size>"
Path("made.xml").write_text(f"<annotation><filename>made.jpg</filename>{size}{objects}</annotation>")
coco = {
    "images": [{"id": 1, "file_name": "made.jpg", "width": 100, "height": 100}],
    "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)],
    "annotations": [
        {"id": number, "image_id": 1, "category_id": number, "bbox": [x, y, right - x, bottom - y]}
        for number, (x, y, right, bottom) in enumerate(BOXES, 1)
    ],
}
Path("made.json").write_text(json.dumps(coco))
voc, coco = classes("made.xml", "voc"), classes("made.json", "coco")
print("cvannotate", version("cvannotate"), "classes of", CLASSES, "from VOC:", voc, "from COCO:", coco)
sys.exit(0 if (voc, coco) == ([0, 0, 0], [1, 2, 3]) else "changed: classes have their numbers")
PYTHON
