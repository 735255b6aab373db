"""Weighted sums of rows: the one operation behind pooling and behind points to voxels and back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int32
from torch import Tensor
from torch.nn.functional import embedding_bag, pad


@dataclass(frozen=True)
class RowSums:
    """A sparse matrix by rows: ``out[r] = sum of weight[j] * feats[row[j]]`` over j in ``start[r]:start[r + 1]``.

    Applied as one ``embedding_bag``; its gradient is the transposed matrix, applied in the same way (several times
    faster on a CPU than PyTorch's own gradient of a bag, which sorts the indices each time). n_in: rows of ``feats``.
    """

    row: Int32[Tensor, " p"]
    start: Int32[Tensor, " q"]  # one more than rows
    weight: Float[Tensor, " p"]
    n_in: int

    def __call__(self, feats: Float[Tensor, "n c"]) -> Float[Tensor, "m c"]:
        """The sums, in the type of ``feats``. Differentiable (once)."""
        result: Tensor = _Apply.apply(feats, self)
        return result

    def __len__(self) -> int:
        return len(self.start) - 1

    @classmethod
    def from_pairs(cls, row: Tensor, out: Tensor, n_in: int, n_out: int) -> RowSums:
        """Sums with weight 1 over pairs (input row, output row) in any order."""
        start = torch.arange(len(row) + 1, dtype=torch.int32, device=row.device)
        one = torch.ones(len(row), device=row.device)
        by_pair = replace(cls(out.int(), start, one, n_out).transposed, n_in=n_in)
        return replace(by_pair, row=row.int().index_select(0, by_pair.row))

    @cached_property
    def count(self) -> Int32[Tensor, " m"]:
        """Terms of each sum."""
        return self.start.diff()

    def mean(self) -> RowSums:
        """The same sums, each divided by its number of terms; an empty one stays zero."""
        return replace(self, weight=self.weight / torch.repeat_interleave(self.count, self.count))

    @cached_property
    def transposed(self) -> RowSums:
        """Input and output exchanged."""
        return self._transposed_anywhere() if self.row.is_cuda else self._transposed_on_cpu()

    def _transposed_on_cpu(self) -> RowSums:
        """By SciPy's counting sort: ten times faster than other sorts."""
        from scipy.sparse import csr_array  # not while a node starts

        columns = (self.weight.numpy(), self.row.numpy(), self.start.numpy())
        matrix = csr_array(columns, shape=(len(self), self.n_in)).tocsc()
        row, start, weight = (torch.from_numpy(part) for part in (matrix.indices, matrix.indptr, matrix.data))
        return RowSums(row.int(), start.int(), weight, len(self))

    def _transposed_anywhere(self) -> RowSums:
        order = torch.argsort(self.row, stable=True)
        out = torch.arange(len(self), dtype=torch.int32, device=self.row.device)
        out = torch.repeat_interleave(out, self.count)
        start = pad(torch.bincount(self.row, minlength=self.n_in).cumsum(0), (1, 0))
        return RowSums(out[order], start.int(), self.weight[order], len(self))


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, feats: Tensor, sums: RowSums) -> Tensor:
        ctx.sums = sums
        return _bags(feats, sums)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _bags(grad, ctx.sums.transposed), None


def _bags(feats: Tensor, sums: RowSums) -> Tensor:
    if len(sums.row) == 0:
        return feats.new_zeros(len(sums), feats.shape[1])
    weight = sums.weight.to(feats.dtype)
    return embedding_bag(
        sums.row, feats.contiguous(), sums.start, mode="sum", include_last_offset=True, per_sample_weights=weight
    )
