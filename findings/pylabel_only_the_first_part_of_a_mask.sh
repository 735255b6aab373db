#!/usr/bin/env bash
# pylabel 0.1.55, COCO to YOLO, ExportToYoloV5:
# 1. segmentation=True: of an object in several parts, as COCO keeps a car behind a pole, only the FIRST outline is written.
#    The rest of it is background for whoever trains with the labels, and nothing is said.
# 2. The classes in the label files are COCO's category ids as they are, and the data set's .yaml, which is written beside
#    them, lists the names that occur, from 0: class 1 of the labels is the second name of the list, and the last one is
#    beyond nc. With cat_id_index=0, which is documented for ids with gaps, they fit.
# Seen here, ids car = 1 and pole = 2, a pole in two parts of 30 x 40 pixels each: one outline of 4 points, class 2; names:
# [pole], nc: 1; with cat_id_index=0 class 0. Drawing and training libraries are stood in for. Exit status: 0 if this is still
# so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q numpy==2.2.6 pandas==2.2.3 opencv-python-headless==4.11.0.86 PyYAML==6.0.2 tqdm==4.67.1 pillow==11.3.0
"$tmp/venv/bin/pip" install -q --no-deps pylabel==0.1.55
cd "$tmp"
venv/bin/python -W ignore - <<'PYTHON' 2> errors || { cat errors >&2; exit 1; }
import json
import sys
from importlib.metadata import version
from pathlib import Path
from unittest.mock import MagicMock

for name in ("IPython", "IPython.display", "bbox_visualizer", "ipywidgets", "jupyter_bbox_widget", "matplotlib",
             "matplotlib.pyplot", "sklearn", "sklearn.model_selection"):  # fmt: skip
    sys.modules[name] = MagicMock()

import yaml
from PIL import Image
from pylabel import importer

PARTS = [[10, 10, 40, 10, 40, 50, 10, 50], [80, 10, 110, 10, 110, 50, 80, 50]]
pole = {"id": 1, "image_id": 1, "category_id": 2, "iscrowd": 0, "area": 2400, "bbox": [10, 10, 100, 40], "segmentation": PARTS}
Path("images").mkdir()
Image.new("RGB", (200, 100)).save("images/0.png")
categories = [{"id": 1, "name": "car", "supercategory": ""}, {"id": 2, "name": "pole", "supercategory": ""}]
images = [{"id": 1, "file_name": "0.png", "width": 200, "height": 100}]
Path("coco.json").write_text(json.dumps({"images": images, "categories": categories, "annotations": [pole]}))


def exported(**options):
    """Class and number of points of each line, and the .yaml."""
    data = importer.ImportCoco("coco.json", path_to_images="images")
    data.export.ExportToYoloV5(output_path="labels", yaml_file="data.yaml", segmentation=True, **options)
    lines = [line.split() for line in Path("labels/0.txt").read_text().splitlines() if line.strip()]
    described = yaml.safe_load(next(Path().rglob("data.yaml")).read_text())
    return [(int(line[0]), len(line[1:]) // 2) for line in lines], described["names"], described["nc"]


usual, indexed = exported(), exported(cat_id_index=0)
print("pylabel", version("pylabel"), "class and points, names, nc:", usual, "with cat_id_index=0:", indexed)
same = usual == ([(2, 4)], ["pole"], 1) and indexed[0] == [(0, 4)]
sys.exit(0 if same else "changed: both parts are written, or classes fit the names")
PYTHON
