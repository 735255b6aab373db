"""Measures of a labelling that need no labels: shares of the classes, confidence, agreement with the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ov3d_perception.evaluation.metrics import Confusion
from ov3d_perception.types import Segmentation


@dataclass(frozen=True)
class Measures:
    """Over all points of all frames. share: fraction of the points given each class.

    confidence: mean probability of the points given a class, for each class given; mean_confidence: of all points.
    """

    frames: int
    points: int
    mean_confidence: float
    share: dict[str, float]
    confidence: dict[str, float]


class Unlabelled:
    """Accumulates predictions. ``agreement`` holds them against the teacher's labels, by whoever has a teacher."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names, self.frames = tuple(names), 0
        self.agreement = Confusion(names)
        self._count, self._sum = np.zeros(len(names), np.int64), np.zeros(len(names))

    def update(self, predicted: Segmentation) -> None:
        """Add a frame's points."""
        self.frames += 1
        self._count += np.bincount(predicted.label, minlength=len(self.names))
        self._sum += np.bincount(predicted.label, predicted.probability, len(self.names))

    def measures(self) -> Measures:
        """The measures so far."""
        points = int(self._count.sum())
        given = np.flatnonzero(self._count).tolist()
        return Measures(
            self.frames,
            points,
            float(self._sum.sum() / max(points, 1)),
            {self.names[c]: float(self._count[c] / points) for c in given},
            {self.names[c]: float(self._sum[c] / self._count[c]) for c in given},
        )
