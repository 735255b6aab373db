from __future__ import annotations

import pytest
import torch

from ov3d_perception.sparse.row_sums import RowSums


def example() -> RowSums:
    """[[2, 0, 3], [0, 0, 0], [0, 5, 0], [7, 11, 0]]: an empty row among others."""
    row = torch.tensor([0, 2, 1, 0, 1], dtype=torch.int32)
    return RowSums(row, torch.tensor([0, 2, 2, 3, 5], dtype=torch.int32), torch.tensor([2.0, 3, 5, 7, 11]), 3)


MATRIX = torch.tensor([[2.0, 0, 3], [0, 0, 0], [0, 5, 0], [7, 11, 0]])


def test_is_the_product_with_the_matrix() -> None:
    feats = torch.tensor([[1.0, -1], [10, 0], [100, 2]])
    assert len(example()) == 4
    assert example()(feats).tolist() == [[302, 4], [0, 0], [50, 0], [117, -7]]


@pytest.mark.parametrize("how", ["_transposed_on_cpu", "_transposed_anywhere"])
def test_transposed(how: str) -> None:
    transposed = getattr(example(), how)()
    assert torch.equal(transposed(torch.eye(4)), MATRIX.T)
    assert transposed.row.dtype == transposed.start.dtype == torch.int32 and transposed.n_in == 4


def test_mean_divides_by_the_number_of_terms() -> None:
    assert torch.equal(example().mean()(torch.eye(3)), MATRIX / torch.tensor([[2.0], [1], [1], [2]]))


def test_from_pairs_in_any_order() -> None:
    sums = RowSums.from_pairs(torch.tensor([2, 0, 1, 0]), torch.tensor([3, 1, 3, 0]), n_in=3, n_out=4)
    assert sums(torch.eye(3)).tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 1, 1]]


def test_gradient() -> None:
    feats = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: example()(f), (feats,))


def test_without_terms() -> None:
    nothing = RowSums.from_pairs(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), 0, 2)
    feats = torch.zeros(0, 3, requires_grad=True)
    out = nothing(feats)
    out.sum().backward()
    assert out.tolist() == [[0, 0, 0]] * 2 and feats.grad is not None and feats.grad.shape == (0, 3)
