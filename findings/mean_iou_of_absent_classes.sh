#!/usr/bin/env bash
# The mean IoU of one segmentation where some classes are neither in the ground truth nor predicted, as in one scan, one drive or
# a small test set with the whole label list of Cityscapes or SemanticKITTI. Its IoU is 0 / 0; Cityscapes' own
# script and torchmetrics 1.9.0 (MulticlassJaccardIndex) leave such a class out of the mean. Others do not:
# 1. kornia 0.9.0 (metrics.mean_iou) and segmentation-models-pytorch 0.6.0 (iou_score with reduction="macro", also
#    "macro-imagewise") count it as 1: everything wrong is 0.75 if 12 of 16 classes are absent, and a list with more classes
#    that never occur gives a better score.
# 2. pytorch-ignite 0.5.5 (mIoU) counts it as 0: everything right is 0.25.
# smp's documentation has its 1.0 (zero_division), the others' have nothing of it.
# Seen here, 4 of 16 classes present: everything wrong, right, a third wrong: torchmetrics 0, 1, 0.5; kornia and smp
# 0.75, 1, 0.875; ignite 0, 0.25, 0.125.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q torch==2.13.0+cpu torchmetrics==1.9.0 numpy==2.4.6
"$tmp/venv/bin/pip" install -q --no-deps kornia==0.9.0 kornia_rs==0.2.0 segmentation-models-pytorch==0.6.0 pytorch-ignite==0.5.5
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import distribution, version
from types import ModuleType

import torch
from ignite.metrics import ConfusionMatrix, mIoU
from kornia.metrics import mean_iou
from torch.nn.functional import one_hot
from torchmetrics.classification import MulticlassJaccardIndex

package = ModuleType("segmentation_models_pytorch")  # its own __init__ loads all networks, which are not needed here
package.__path__ = [str(distribution("segmentation-models-pytorch").locate_file("segmentation_models_pytorch"))]
sys.modules["segmentation_models_pytorch"] = package
from segmentation_models_pytorch.metrics.functional import get_stats, iou_score  # noqa: E402

CLASSES = 16
truth = torch.arange(4).repeat_interleave(30)[None]
third = torch.arange(120)[None] % 3 == 0


def scores(predicted):
    confusion = ConfusionMatrix(CLASSES)
    ignite = mIoU(confusion)
    confusion.update((one_hot(predicted, CLASSES).permute(0, 2, 1).float(), truth))
    counts = get_stats(predicted, truth, mode="multiclass", num_classes=CLASSES)
    found = {
        "torchmetrics": MulticlassJaccardIndex(CLASSES)(predicted, truth),
        "kornia": mean_iou(predicted, truth, CLASSES).mean(),
        "smp": iou_score(*counts, reduction="macro"),
        "ignite": ignite.compute(),
    }
    return {name: round(float(one), 3) for name, one in found.items()}


wrong, right, half = scores((truth + 1) % 4), scores(truth), scores(torch.where(third, (truth + 1) % 4, truth))
names = {name: version(name) for name in ("torchmetrics", "kornia", "segmentation-models-pytorch", "pytorch-ignite")}
print(names, "wrong:", wrong, "right:", right, "a third wrong:", half)
same = list(wrong.values()) == [0, 0.75, 0.75, 0] and list(right.values()) == [1, 1, 1, 0.25]
same = same and list(half.values()) == [0.5, 0.875, 0.875, 0.125]
sys.exit(0 if same else "changed: a class that is nowhere is left out of the mean")
PYTHON
