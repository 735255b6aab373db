#!/usr/bin/env bash
# torchvision 0.28.0, transforms.ToTensor and to_tensor (v2.ToTensor, too), of a 16-bit PNG (pillow 12.0.0): the pixels become
# SIGNED 16-bit integers, so that everything from 32768 on is negative. Cityscapes and KITTI-360 keep instances as class *
# 1000 + number in such PNGs: a car, 26001, is right, and class 33, bicycles, is not; id // 1000 is class -33. A depth or
# disparity image times 256, as KITTI has it, turns over at 128. pil_to_tensor, v2.PILToTensor and io.decode_image
# give uint16. Nothing warns, and 8-bit images, and all classes up to 32, hide it.
# Seen here: 26001, 33001, 40000 and 65535 -> 26001, -32535, -25536, -1.
# torchvision's wheel for CUDA lacks its operators beside a torch for CPUs; two are declared, since it asks for them on import.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q torch==2.13.0+cpu torchvision==0.28.0 pillow==12.0.0 numpy==2.4.6
"$tmp/venv/bin/python" - "$tmp" <<'PYTHON'
import sys

import numpy as np
import torch
from PIL import Image

declared = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import torchvision  # noqa: E402
from torchvision.transforms import ToTensor, functional  # noqa: E402

ids = [26001, 33001, 40000, 65535]
Image.fromarray(np.array([ids], np.uint16)).save(file := f"{sys.argv[1]}/instanceIds.png")
image = Image.open(file)
tensor, right = ToTensor()(image), functional.pil_to_tensor(image)
print(torchvision.__version__, image.mode, ids, "ToTensor", tensor.tolist(), "pil_to_tensor", right.dtype, right.tolist())
same = tensor.tolist() == [[[26001, -32535, -25536, -1]]] and right.tolist() == [[ids]]
sys.exit(0 if same else "changed: 16 bits stay unsigned")
PYTHON
