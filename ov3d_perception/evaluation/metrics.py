"""Scores of a labelling: mIoU, mAcc, accuracy and IoU per class, from a torchmetrics confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int, Int64, Num
from torchmetrics.classification import MulticlassConfusionMatrix

from ov3d_perception.types import UNLABELLED


@dataclass(frozen=True)
class Scores:
    """Over the classes present in the ground truth of the scored points; ``iou`` holds those classes only.

    points: how many labelled points were scored. share: fraction of them that belongs to each present class.
    """

    miou: float
    macc: float
    accuracy: float
    points: int
    iou: dict[str, float]
    share: dict[str, float]


class Confusion:
    """Accumulates predictions against ground truth. Points without ground truth are ignored.

    A prediction of :data:`UNLABELLED` counts as wrong for the point's class and as a false positive of none.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._metric = MulticlassConfusionMatrix(
            num_classes=len(names) + 1,
            validate_args=False,
            sync_on_compute=False,  # one process evaluates; the others do not wait for it
        )

    def update(self, predicted: Int[np.ndarray, " n"], truth: Int[np.ndarray, " n"]) -> None:
        """Add points. Both are class indices into ``names`` or UNLABELLED."""
        known = truth != UNLABELLED
        nothing = len(self.names)
        guess = np.where(predicted == UNLABELLED, nothing, predicted)[known]
        self._metric.update(torch.from_numpy(guess.astype(np.int64)), torch.from_numpy(truth[known].astype(np.int64)))

    def matrix(self) -> Int64[np.ndarray, "c d"]:
        """Rows: ground truth; columns: prediction, the last one for UNLABELLED."""
        if self._metric.update_count == 0:
            return np.zeros((len(self.names), len(self.names) + 1), np.int64)
        return self._metric.compute().numpy()[:-1]

    def scores(self) -> Scores:
        """The scores so far; zeros where nothing was scored."""
        return scores_of(self.matrix(), self.names)


def scores_of(matrix: Int64[np.ndarray, "c d"], names: Sequence[str]) -> Scores:
    """Scores of a matrix as :meth:`Confusion.matrix` gives it, or of several such added up."""
    counted = matrix.astype(np.float64)
    truth, hit = counted.sum(1), np.diagonal(counted)
    union = truth + counted.sum(0)[:-1] - hit
    present = truth > 0
    if not present.any():
        return Scores(0.0, 0.0, 0.0, 0, {}, {})
    iou, total = hit[present] / union[present], truth.sum()
    there = [name for name, known in zip(names, present, strict=True) if known]
    return Scores(
        miou=float(iou.mean()),
        macc=float((hit[present] / truth[present]).mean()),
        accuracy=float(hit.sum() / total),
        points=int(total),
        iou=dict(zip(there, iou.tolist(), strict=True)),
        share=dict(zip(there, (truth[present] / total).tolist(), strict=True)),
    )


def mean_iou(matrices: Num[np.ndarray, "*batch c d"]) -> Float64[np.ndarray, "*batch"]:
    """``scores_of(matrix, names).miou`` of many matrices at once."""
    counted = matrices.astype(np.float64)
    truth, hit = counted.sum(-1), np.diagonal(counted, axis1=-2, axis2=-1)
    union, present = truth + counted.sum(-2)[..., :-1] - hit, truth > 0
    iou = np.divide(hit, union, out=np.zeros_like(hit), where=present)
    return np.asarray(iou.sum(-1) / np.maximum(present.sum(-1), 1))
