"""What a network teaches itself, epoch by epoch: shares of its classes, labels changed, signs of a collapse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

ALONE = 0.9
"""Share of one class from which on the others are said to be lost."""
KNOWN, LOST = 0.01, 0.1
"""A class of at least this share in the first epoch is lost where it has less than this part of it."""


@dataclass(frozen=True)
class LabelReport:
    """Of one epoch. shares: of the voted labels, by class; changed: share of the labels that voting has changed."""

    shares: dict[str, float]
    changed: float
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in self.shares.items())
        return f"{shares}; voting changed {100 * self.changed:.1f} %"

    def metrics(self) -> dict[str, float]:
        """For the run's logs."""
        return {"self: changed by voting": self.changed, "self: largest class": max(self.shares.values())}


class LabelWatch:
    """Counts labels until an epoch is closed.

    Args:
        names: of the classes.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.first: list[float] | None = None
        """Shares in the first epoch."""
        self._clear()

    def _clear(self) -> None:
        self._count = torch.zeros(len(self.names), dtype=torch.int64)
        self._changed = 0

    def add(self, label: Int64[Tensor, " n"], voted: Int64[Tensor, " n"]) -> None:
        """Labels of one step before and after voting."""
        self._count += torch.bincount(voted, minlength=len(self.names)).cpu()
        self._changed += int((label != voted).sum())

    def shares(self) -> list[float]:
        """Of each class among the labels since the last report."""
        shares: list[float] = (self._count / self._count.sum().clamp_min(1)).tolist()
        return shares

    def close(self) -> LabelReport:
        """The report of the labels since the last one."""
        shares, changed = self.shares(), self._changed / max(int(self._count.sum()), 1)
        self._clear()
        if self.first is None:
            self.first = shares
        warnings = [
            f"{name} is {100 * share:.0f} % of all labels"
            for name, share in zip(self.names, shares, strict=True)
            if share > ALONE
        ]
        warnings += [
            f"{name} had {100 * before:.1f} % of the labels in the first epoch and has {100 * share:.2f} %"
            for name, before, share in zip(self.names, self.first, shares, strict=True)
            if before >= KNOWN and share < LOST * before
        ]
        return LabelReport(dict(zip(self.names, shares, strict=True)), changed, tuple(warnings))
