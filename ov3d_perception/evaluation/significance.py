"""Is a difference between two networks more than the luck of the frames? A paired bootstrap says how far it is known.

The frames that both have labelled are drawn anew, with replacement, many times; the spread of the difference of mean
IoU over the draws is that of its sampling error (Efron, 1979). Both networks keep the same frames in a draw, so what
makes a frame hard for both falls out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int, Int64

from ov3d_perception.evaluation.metrics import Confusion, mean_iou

CONFIDENCE = 0.95
DRAWS = 2000
DRIVES = 10
"""From so many drives on, whole drives are drawn: frames of one drive are alike. With fewer, frames are drawn, and the
interval speaks of these drives alone."""


@dataclass(frozen=True)
class Change:
    """Mean IoU of two networks on the same frames.

    before, after: over all frames. low, high: of the difference after - before, at :data:`CONFIDENCE`.
    units: drives or frames that were drawn.
    """

    before: float
    after: float
    low: float
    high: float
    units: int

    @property
    def gain(self) -> float:
        """The best estimate of the difference."""
        return self.after - self.before


class Paired:
    """What two networks make of each frame of a place: their confusion matrices (:meth:`Confusion.matrix`)."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._drives: list[str] = []
        self._matrices: list[Int64[np.ndarray, "2 c d"]] = []

    def add(
        self, drive: str, truth: Int[np.ndarray, " n"], before: Int[np.ndarray, " n"], after: Int[np.ndarray, " n"]
    ) -> None:
        """One frame's points: true classes and each network's, as :meth:`Confusion.update` takes them."""
        found = (Confusion(self._names), Confusion(self._names))
        for confusion, said in zip(found, (before, after), strict=True):
            confusion.update(said, truth)
        if (matrices := np.stack([confusion.matrix() for confusion in found])).any():
            self._drives.append(drive)
            self._matrices.append(matrices)

    def __len__(self) -> int:
        return len(self._matrices)

    def units(self) -> Int64[np.ndarray, "u 2 c d"]:
        """The matrices of what is drawn: of each drive, where there are :data:`DRIVES` or more, else of each frame."""
        frames = np.stack(self._matrices)
        drives, which = np.unique(self._drives, return_inverse=True)
        if len(drives) < DRIVES:
            return frames
        found = np.zeros((len(drives), *frames.shape[1:]), np.int64)
        np.add.at(found, which, frames)
        return found


def change(places: Sequence[Paired], seed: int = 0) -> Change | None:
    """The change of mean IoU, the mean over the places; each place's units are drawn among themselves.

    None where no place has a frame with truth.
    """
    known = [place.units() for place in places if len(place)]
    if not known:
        return None
    rng = np.random.default_rng(seed)
    before, after = np.mean([mean_iou(units.sum(0)) for units in known], axis=0)
    drawn = np.mean([_draws(units, rng) for units in known], axis=0)
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Change(float(before), float(after), float(low), float(high), sum(map(len, known)))


def _draws(units: Int64[np.ndarray, "u 2 c d"], rng: np.random.Generator) -> Float64[np.ndarray, " r"]:
    """Differences of mean IoU, after - before, of the draws."""
    times = rng.multinomial(len(units), np.full(len(units), 1 / len(units)), DRAWS)
    summed = (times @ units.reshape(len(units), -1).astype(np.float64)).reshape(DRAWS, *units.shape[1:])
    miou = mean_iou(summed)
    return miou[:, 1] - miou[:, 0]
