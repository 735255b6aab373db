"""Shadow mode: a second network labels some of the live scans, too. Only how far the two agree is published."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from jaxtyping import Int64

from ov3d_perception.ros.diagnostics import Health
from ov3d_perception.ros.lidar_pipeline import InForce
from ov3d_perception.ros.points_input import Points
from ov3d_perception.types import UNLABELLED, Segmentation

_MOST = 3  # pairs of classes that are named


class Shadow:
    """Compares a candidate with what is in force, over ``scans`` scans, each ``every``-th that comes.

    :meth:`watch` is for the pipeline. error: what the candidate raised; the comparison ends with it.
    """

    def __init__(
        self,
        candidate: InForce,
        label: Callable[[Points, InForce], Segmentation],
        scans: int,
        every: int,
        health: Health,
    ) -> None:
        self._candidate, self._label, self._wanted, self._every = candidate, label, scans, max(every, 1)
        self._health = health
        self._came = 0
        self.compared = 0
        self.error: Exception | None = None
        self._alike = self._points = 0
        self._names = candidate.model.vocabulary.names
        self._apart: Int64[np.ndarray, "c c"] = np.zeros((0, 0), np.int64)
        self._changed = threading.Condition()

    @property
    def agreement(self) -> float:
        """Share of the points so far that both label alike; NaN before the first scan."""
        return self._alike / self._points if self._points else float("nan")

    @property
    def done(self) -> bool:
        """True if enough scans were compared, or the candidate failed."""
        return self.error is not None or self.compared >= self._wanted

    def watch(self, message: Points, labels: Segmentation, in_force: InForce) -> None:
        """One scan and what is published of it. Never raises."""
        self._came += 1
        if self.done or (self._came - 1) % self._every:
            return
        try:
            with self._health.timed("shadow"):
                self._compare(self._label(message, self._candidate), labels, in_force)
        except Exception as error:  # the candidate's, or a scan that it cannot take: the running network goes on
            self.error = error
        with self._changed:
            self.compared += self.error is None
            self._changed.notify_all()
        self._health.value("shadow scans", self.compared)
        self._health.value("shadow agreement", f"{self.agreement:.3f}")
        self._health.value("shadow differs", self.differences())

    def wait(self, patience_s: float) -> bool:
        """Until enough was compared; False if no scan was compared for ``patience_s`` seconds."""
        with self._changed:
            while not self.done:
                before = self.compared
                if not self._changed.wait(patience_s) and self.compared == before and not self.done:
                    return False
        return True

    def differences(self) -> str:
        """The pairs of classes that differ most, as text: "car -> truck 3.1 %"."""
        if not self._apart.any():
            return "nowhere"
        names = (*self._names, "no class")
        order = np.argsort(self._apart, axis=None)[::-1][:_MOST]
        pairs = zip(*np.unravel_index(order, self._apart.shape), strict=True)
        shares = ((names[a], names[b], self._apart[a, b] / self._points) for a, b in pairs if self._apart[a, b])
        return ", ".join(f"{a} -> {b} {100 * share:.1f} %" for a, b, share in shares)

    def _compare(self, candidate: Segmentation, present: Segmentation, in_force: InForce) -> None:
        count = len(self._names)
        table = {name: number for number, name in enumerate(self._names)}
        there = np.array([table.get(name, count) for name in in_force.model.vocabulary.names] + [count])
        old = there[np.where(present.label == UNLABELLED, len(there) - 1, present.label)]
        new = np.where(candidate.label == UNLABELLED, count, candidate.label)
        if not self._apart.size:
            self._apart = np.zeros((count + 1, count + 1), np.int64)
        different = old != new
        np.add.at(self._apart, (old[different], new[different]), 1)
        self._points += len(new)
        self._alike += int(len(new) - different.sum())
