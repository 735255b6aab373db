"""Operations that follow a convolution row by row, applied to each block of rows while it is in the cache."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Epilogue:
    """``rows * scale + shift + shortcut @ matrix``, then ReLU; terms that are None are skipped.

    shortcut: one row for each row of the output.
    """

    scale: Float[Tensor, " c"] | None = None
    shift: Float[Tensor, " c"] | None = None
    shortcut: Float[Tensor, "m i"] | None = None
    matrix: Float[Tensor, "i c"] | None = None
    relu: bool = False

    def __call__(self, rows: Float[Tensor, "r c"], at: slice, out: Float[Tensor, "r c"]) -> None:
        """Overwrite ``rows``, the rows ``at`` of the output, and write the result to ``out``: ``rows`` themselves, or
        an array of a smaller type."""
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


def apply_epilogue(out: Float[Tensor, "m c"], epilogue: Epilogue | None) -> Float[Tensor, "m c"]:
    """Apply the epilogue to all rows of ``out``, in place."""
    if epilogue is not None:
        epilogue(out, slice(None), out)
    return out
