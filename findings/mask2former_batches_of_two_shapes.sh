#!/usr/bin/env bash
# transformers 5.24.0, the image processors of Mask2Former and MaskFormer: images of a batch are padded, on the right and below,
# to one shape, and pixel_mask says where. post_process_semantic_, instance_ and panoptic_segmentation are given each image's own
# size as target_sizes, and stretch the WHOLE padded mask to it. A wide camera and one that stands upright in one batch are
# segmented in the wrong places: the wide one's picture is squeezed to its upper part, the upright one's to its left part.
# Each of them alone is right, and so is a batch of one shape; nothing is said. (The models' own code cuts the padding off
# first.)
# Seen here, masks that are exactly right in the padded batch of 640 x 360 and 360 x 640, for the lower right quarter of each:
# IoU 0.10, in rows 0.29 to 0.57 of the height of the wide one; alone 1.00.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q torch==2.13.0+cpu transformers==5.24.0 pillow==12.2.0 numpy==2.4.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from transformers import Mask2FormerImageProcessorPil, MaskFormerImageProcessorPil

SIZES = [(360, 640), (640, 360)]  # height, width
SURE = 20.0


def quarter(height, width):
    inside = np.zeros((height, width), bool)
    inside[height // 2 :, width // 2 :] = True
    return inside


def overlaps(processor, sizes):
    """IoU of what a network that sees the bright quarter perfectly is made into, and the rows where it is, of each image."""
    images = [Image.fromarray(np.stack([quarter(*size) * np.uint8(255)] * 3, -1)) for size in sizes]
    pixels = processor(images=images, return_tensors="pt")["pixel_values"]
    small = torch.nn.functional.interpolate(pixels.mean(1, keepdim=True), scale_factor=0.25, mode="bilinear")[:, 0]
    bright = torch.where(small > 1, SURE, -SURE)
    classes = torch.tensor([[-SURE, SURE, -SURE], [SURE, -SURE, -SURE]]).expand(
        len(sizes), 2, 3
    )  # 1 and 0, none of them nothing
    outputs = SimpleNamespace(masks_queries_logits=torch.stack([bright, -bright], 1), class_queries_logits=classes)
    found = [one.numpy() == 1 for one in processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)]
    rows = np.flatnonzero(found[0].any(1)) / sizes[0][0]
    scores = [
        (one & quarter(*size)).sum() / (one | quarter(*size)).sum() for one, size in zip(found, sizes, strict=True)
    ]
    return np.round(scores, 2).tolist(), (rows.min().round(2).item(), rows.max().round(2).item())


same = True
for kind in (Mask2FormerImageProcessorPil, MaskFormerImageProcessorPil):
    processor = kind()
    (both, rows), (alone, _) = overlaps(processor, SIZES), overlaps(processor, SIZES[:1])
    print(
        "transformers", version("transformers"), kind.__name__, "IoU in a batch:", both, "rows:", rows, "alone:", alone
    )
    same = same and max(both) < 0.15 and rows[0] < 0.3 and rows[1] < 0.6 and alone[0] > 0.98
sys.exit(0 if same else "changed: padding is cut off before masks are resized")
PYTHON
