"""What follows a convolution row by row: done to each block of its rows while they are in the cache."""

from __future__ import annotations

from dataclasses import dataclass

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

    def __call__(self, rows: Float[Tensor, "r c"], at: slice, out: Float[Tensor, "r c"]) -> None:
        """Overwrites ``rows``, which are those ``at`` of the output, and writes the result to ``out``, which may be
        ``rows`` or of a narrower type."""
        if self.scale is not None:
            rows.mul_(self.scale)
        if self.shift is not None:
            rows.add_(self.shift)
        if self.shortcut is not None:
            beside = self.shortcut[at]
            if self.matrix is None:
                rows.add_(beside)
            elif beside.dtype == rows.dtype:
                rows.addmm_(beside, self.matrix)
            else:
                rows.add_(beside @ self.matrix)
        if self.relu:
            rows.clamp_min_(0)
        if out.data_ptr() != rows.data_ptr() or out.dtype != rows.dtype:
            out.copy_(rows)


def finished(out: Float[Tensor, "m c"], finish: Finish | None) -> Float[Tensor, "m c"]:
    """``out`` finished in place, all rows at once."""
    if finish is not None:
        finish(out, slice(None), out)
    return out
