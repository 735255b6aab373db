"""Pseudo-labels that keep their shares: a class that grows by being taught to itself is held back.

Distribution alignment (Berthelot et al., ReMixMatch, ICLR 2020)::

    q_c ~ p_c wanted_c / now_c

p: probabilities of a point; now: their mean over the last scans; wanted: their mean when self-distillation began.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_BEGUN = 30  # scans, whose mean is what is wanted
_DECAY = 0.97  # a scan
_LEAST = 1e-4  # of a share


class Alignment:
    """The shares of the classes, wanted and now; nothing changes until ``wanted`` is known."""

    def __init__(self) -> None:
        self._scans = 0
        self._wanted = self._now = torch.zeros(0)

    def offset(self, probability: Float[Tensor, "n c"]) -> Float[Tensor, " c"]:
        """log(wanted / now), to be added to log p; a scan's probabilities are counted first. n > 0."""
        mean = probability.mean(0)
        first = self._scans == 0
        self._now = mean if first else self._now.to(mean) * _DECAY + mean * (1 - _DECAY)
        self._scans += 1
        if self._scans <= _BEGUN:
            self._wanted = mean if first else self._wanted.to(mean) + (mean - self._wanted.to(mean)) / self._scans
            return torch.zeros_like(mean)
        return (self._wanted.to(mean).clamp_min(_LEAST) / self._now.clamp_min(_LEAST)).log()

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` takes."""
        return {"scans": self._scans, "wanted": self._wanted, "now": self._now}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._scans, self._wanted, self._now = state["scans"], state["wanted"], state["now"]
