"""What follows a convolution row by row: done to each block of its rows while they are in the cache."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Finish:
    """``rows * scale + shift + shortcut @ matrix``, then negatives cut off (``relu``); what is None is left out.

    shortcut: one row for each row of the output.
    """

    scale: Float[Tensor, " c"] | None = None
    shift: Float[Tensor, " c"] | None = None
    shortcut: Float[Tensor, "m i"] | None = None
    matrix: Float[Tensor, "i c"] | None = None
    relu: bool = False

    def to(self, dtype: torch.dtype) -> Finish:
        """The same in that type."""
        parts = (self.scale, self.shift, self.shortcut, self.matrix)
        scale, shift, shortcut, matrix = (None if part is None else part.to(dtype) for part in parts)
        return Finish(scale, shift, shortcut, matrix, self.relu)

    def __call__(self, rows: Float[Tensor, "r c"], at: slice, out: Float[Tensor, "r c"]) -> None:
        """Overwrites ``rows``, which are those ``at`` of the output, and writes the result to ``out``."""
        if self.scale is not None:
            rows.mul_(self.scale)
        if self.shift is not None:
            rows.add_(self.shift)
        if self.shortcut is not None and self.matrix is not None:
            rows.addmm_(self.shortcut[at], self.matrix)
        elif self.shortcut is not None:
            rows.add_(self.shortcut[at])
        if self.relu:
            torch.clamp_min(rows, 0, out=out)
        elif out is not rows:
            out.copy_(rows)


def finished(out: Float[Tensor, "m c"], finish: Finish | None) -> Float[Tensor, "m c"]:
    """``out`` finished in place, all rows at once."""
    if finish is not None:
        finish.to(out.dtype)(out, slice(None), out)
    return out
