"""The vector-matrix grid against PyTorch's own interpolation, hand-computed values and its penalties' definitions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ov3d_perception.fields.grid import VMGrid

CHANNELS = [(16, 4, 4), (8, 8, 8), (48, 12, 12)]


def points(grid: VMGrid, count: int) -> Tensor:
    return torch.rand(count, 3) * (torch.tensor(grid.size) + 1.0) - 1.0  # some outside


def by_torch(grid: VMGrid, at: Tensor) -> Tensor:
    return torch.cat([plane * line for plane, line in grid.interpolated(at)], 1)


def gradients(grid: VMGrid, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, grid.grids))


@pytest.mark.parametrize("channels", CHANNELS)
def test_compiled_loops_do_what_pytorch_does(channels: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    grid = VMGrid((5, 7, 4), channels)
    at = points(grid, 200)
    assert grid.compiled
    torch.testing.assert_close(grid(at), by_torch(grid, at), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(grid.sum(at), by_torch(grid, at).sum(1), atol=1e-6, rtol=1e-5)
    weight, weights = torch.randn(200, grid.width), torch.randn(200)
    wanted = gradients(grid, (by_torch(grid, at) * weight).sum())
    torch.testing.assert_close(gradients(grid, (grid(at) * weight).sum()), wanted, atol=1e-5, rtol=1e-4)
    wanted = gradients(grid, (by_torch(grid, at).sum(1) * weights).sum())
    torch.testing.assert_close(gradients(grid, (grid.sum(at) * weights).sum()), wanted, atol=1e-5, rtol=1e-4)


def test_a_node_has_the_product_of_its_plane_and_line() -> None:
    grid = VMGrid((3, 4, 5), (4, 4, 4))
    products = grid(torch.tensor([[2.0, 1.0, 3.0]]))[0]
    for m, (row, column, node) in enumerate([(1, 2, 3), (3, 2, 1), (3, 1, 2)]):  # planes xy, xz, yz; lines z, y, x
        wanted = grid.planes[m][row, column] * grid.lines[m][node]
        torch.testing.assert_close(products[4 * m : 4 * m + 4], wanted)


def test_channels_that_no_register_holds_are_interpolated_by_pytorch() -> None:
    grid = VMGrid((3, 3, 3), (1, 2, 3))
    assert not grid.compiled
    assert grid(torch.zeros(2, 3)).shape == (2, 6)


def test_penalties_add_the_gradients_of_their_values() -> None:
    torch.manual_seed(0)
    grid = VMGrid((5, 6, 7), (4, 4, 8))
    (0.3 * grid.total_variation() + 0.7 * grid.l1()).backward()
    wanted = [grid_.grad.clone() for grid_ in grid.grids if grid_.grad is not None]
    grid.zero_grad()
    grid.add_penalty_gradients(0.3, 0.7)
    torch.testing.assert_close([g.grad for g in grid.grids], wanted)


def test_total_variation_by_hand() -> None:
    grid = VMGrid((2, 2, 2), (4, 4, 4))
    for plane in grid.planes:
        plane.data.zero_()
    grid.planes[0].data[1, 0, 0] = 2.0  # of 8 differences along a side, one is 2: mean square 0.5; along both sides
    assert float(grid.total_variation()) == pytest.approx(2 * (0.5 + 0.5))


def test_nodes_stay_where_they_are_when_a_grid_is_cropped_or_grows() -> None:
    torch.manual_seed(0)
    grid = VMGrid((5, 6, 7), (4, 4, 4))
    at = torch.tensor([[1.5, 2.5, 3.2]])
    before = grid(at)
    grid.crop((1, 2, 1), (4, 5, 6))
    assert grid.size == (3, 3, 5)
    torch.testing.assert_close(grid(at - torch.tensor([1.0, 2.0, 1.0])), before)
    before = grid(torch.tensor([[0.0, 2.0, 4.0]]))
    grid.resize((7, 8, 9))
    torch.testing.assert_close(grid(torch.tensor([[0.0, 7.0, 8.0]])), before)


def test_a_grid_without_a_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="has no cell"):
        VMGrid((1, 4, 4), (4, 4, 4))
