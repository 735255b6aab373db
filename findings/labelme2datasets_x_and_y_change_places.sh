#!/usr/bin/env bash
# labelme2datasets 0.0.4 (labelme_bbox_json2voc, voc2coco), from LabelMe's labels to Pascal VOC and COCO:
# 1. The VOC files have x and y exchanged: boxes lie mirrored at the image's diagonal. (The pictures that it draws for checking
#    want the two in that order, and show them rightly.) In square images nothing falls out of the frame.
# 2. In the COCO file the annotations of each image are counted from 1. pycocotools 2.0.10 keeps one annotation an id: those of
#    all images but the last one with that number are gone, and the first image shows the boxes of another one.
# labelme itself, a program with windows, is stood in for: only its file reader is asked for the shapes.
# Seen here, a box of x 10 to 30 and y 50 to 90: xmin 50, ymin 10, xmax 90, ymax 30; two images of a box each: ids 1 and 1,
# pycocotools gives image 1 the box of image 2.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q numpy==2.2.6 lxml==6.0.2 xmltodict==0.12.0 progressbar==2.5 imgviz==1.7.5 pillow==11.3.0 \
    setuptools==80.9.0 pycocotools==2.0.10
"$tmp/venv/bin/pip" install -q --no-deps labelme2datasets==0.0.4
cd "$tmp"
venv/bin/python -W ignore - <<'PYTHON'
import contextlib
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import lxml.etree
import numpy as np
from PIL import Image

picture = np.zeros((100, 100, 3), np.uint8)
sys.modules["labelme"] = SimpleNamespace(utils=SimpleNamespace(img_data_to_arr=lambda data: picture))
from labelme2datasets import labelme_bbox_json2voc, voc2coco
from pycocotools.coco import COCO


def labels(*corners):
    """The VOC file of an image with a box, whose corners are x, y, x, y."""
    left, top, right, bottom = corners
    points = [[left, top], [right, top], [right, bottom], [left, bottom]]
    file = SimpleNamespace(imageData=b"", shapes=[{"label": "car", "points": points}])
    return labelme_bbox_json2voc.get_xml_with_labelfile(file, "any", {}, ("_background_", "car"))[0]


for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
    Path("voc", folder).mkdir(parents=True)
Path("coco/annotations").mkdir(parents=True)
boxes = {"a": (10, 50, 30, 90), "b": (40, 10, 60, 20)}
written = {}
for name, box in boxes.items():
    tree = labels(*box)
    written[name] = [int(tree.findtext(f"object/bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")]
    Path(f"voc/Annotations/{name}.xml").write_bytes(lxml.etree.tostring(tree))
    Image.fromarray(picture).save(f"voc/JPEGImages/{name}.jpg")
Path("voc/ImageSets/Main/train.txt").write_text("a\nb\n")
Path("voc/class_names.txt").write_text("_background_\ncar\n")
with contextlib.redirect_stdout(None):
    voc2coco.generate_coco_annotation("voc/ImageSets/Main/train.txt", "voc", "coco")
    coco = COCO("coco/annotations/train.json")
ids = [one["id"] for one in coco.dataset["annotations"]]
first = [one["image_id"] for one in coco.loadAnns(coco.getAnnIds(imgIds=[1]))]
print("labelme2datasets", version("labelme2datasets"), "drawn:", boxes["a"], "in VOC:", written["a"], "ids in COCO:", ids,
      "annotation of image 1 belongs to image", first, "annotations:", len(coco.anns))  # fmt: skip
same = written["a"] == [50, 10, 90, 30] and ids == [1, 1] and first == [2] and len(coco.anns) == 1
sys.exit(0 if same else "changed: x is x, and ids are told apart")
PYTHON
