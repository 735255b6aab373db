"""How right the live system was: labels of its scans, and what really lies in the boxes it answers with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32

from ov3d_perception.demo.truth import TrueScan
from ov3d_perception.evaluation.metrics import Confusion, Scores
from ov3d_perception.geometry.boxes import Box, points_in_box


@dataclass(frozen=True)
class LabelledScan:
    """What the LiDAR node published for one scan: points in the sensor frame, class ids, probabilities."""

    stamp: int
    xyz: Float32[np.ndarray, "n 3"]
    label: Int32[np.ndarray, " n"]
    probability: Float32[np.ndarray, " n"]


def score_labels(scans: Iterable[LabelledScan], truth: Mapping[int, TrueScan], names: Sequence[str]) -> Scores:
    """Scores over all points of the labelled scans; ``names`` is the class order of both."""
    confusion = Confusion(names)
    for scan in scans:
        if (true := truth.get(scan.stamp)) is not None and len(true.labels) == len(scan.label):
            confusion.update(scan.label, true.labels)
    return confusion.scores()


@dataclass(frozen=True)
class BoxTruth:
    """What a box holds: the true class with most points, its share, and how many points there are."""

    majority: str
    share: float
    points: int


def look_into(boxes: Sequence[Box], truth: Mapping[int, TrueScan], names: Sequence[str]) -> list[BoxTruth]:
    """The true classes of all points ever measured inside each box."""
    xyz = np.concatenate([scan.xyz_map for scan in truth.values()])
    labels = np.concatenate([scan.labels for scan in truth.values()])
    found = []
    for box in boxes:
        inside = labels[points_in_box(xyz, box)]
        counts = np.bincount(inside[inside < len(names)], minlength=len(names))
        best = int(counts.argmax())
        share = float(counts[best] / max(len(inside), 1))
        found.append(BoxTruth(names[best] if len(inside) else "nothing", share, len(inside)))
    return found
