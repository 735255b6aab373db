"""A vector-matrix decomposed grid (TensoRF, Chen et al. 2022): three planes, each times a line across it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ov3d_perception.fields import grid_code
from ov3d_perception.fields.grid_code import LINES, PLANES

Size = tuple[int, int, int]


class VMGrid(nn.Module):
    """Channels at any point of a box: ``plane_m[y, x] * line_m[z]`` for the three ways m to call the axes x, y, z.

    size: nodes along the three axes. channels: of each of the three products. Points are in cells, 0 to size - 1 along
    an axis, interpolated linearly; those outside take the border's values. Gradients flow to the grid alone.
    """

    def __init__(self, size: Size, channels: Size, scale: float = 0.1) -> None:
        super().__init__()
        self.size, self.channels = _checked(size), channels
        self.planes = nn.ParameterList(
            nn.Parameter(scale * torch.randn(size[y], size[x], c)) for (x, y), c in zip(PLANES, channels, strict=True)
        )
        self.lines = nn.ParameterList(
            nn.Parameter(scale * torch.randn(size[axis], c)) for axis, c in zip(LINES, channels, strict=True)
        )

    @property
    def width(self) -> int:
        """Channels of all three products."""
        return sum(self.channels)

    @property
    def grids(self) -> list[Tensor]:
        """Plane and line of each product in turn."""
        return [grid for pair in zip(self.planes, self.lines, strict=True) for grid in pair]

    @property
    def compiled(self) -> bool:
        """Whether the compiled loops serve this grid."""
        first = self.planes[0]
        return first.device.type == "cpu" and first.dtype == torch.float32 and grid_code.fits(self.channels)

    def forward(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n c"]:
        """The products of all channels."""
        if self.compiled:
            result: Tensor = _Products.apply(points, self, False, None, *self.grids)
            return result
        return torch.cat([plane * line for plane, line in self.interpolated(points)], 1)

    def sum(self, points: Float[Tensor, "n 3"], known: Float[Tensor, " n"] | None = None) -> Float[Tensor, " n"]:
        """The sum of the products, without making them. known: the sums, where only their gradient is wanted."""
        if self.compiled:
            result: Tensor = _Products.apply(points, self, True, known, *self.grids)
            return result
        return torch.stack([(plane * line).sum(1) for plane, line in self.interpolated(points)]).sum(0)

    def interpolated(self, points: Float[Tensor, "n 3"]) -> list[tuple[Tensor, Tensor]]:
        """Each plane and line at the points, by PyTorch's own interpolation."""
        last = torch.tensor(self.size, device=points.device, dtype=points.dtype) - 1
        unit = points / last * 2 - 1
        found = []
        for (x, y), axis, plane, line in zip(PLANES, LINES, self.planes, self.lines, strict=True):
            on_plane = _sampled(plane.permute(2, 0, 1)[None], unit[:, [x, y]])
            along = torch.stack([torch.zeros_like(unit[:, axis]), unit[:, axis]], 1)
            found.append((on_plane, _sampled(line.T[None, :, :, None], along)))
        return found

    @torch.no_grad()
    def resize(self, size: Size) -> None:
        """Another number of nodes over the same box, interpolated."""
        for m, ((x, y), axis) in enumerate(zip(PLANES, LINES, strict=True)):
            plane = functional.interpolate(
                self.planes[m].permute(2, 0, 1)[None], (size[y], size[x]), mode="bilinear", align_corners=True
            )
            line = functional.interpolate(self.lines[m].T[None], size[axis], mode="linear", align_corners=True)
            self.planes[m] = nn.Parameter(plane[0].permute(1, 2, 0).contiguous())
            self.lines[m] = nn.Parameter(line[0].T.contiguous())
        self.size = _checked(size)

    @torch.no_grad()
    def crop(self, first: Sequence[int], stop: Sequence[int]) -> None:
        """Keep the nodes ``first`` to ``stop - 1`` of each axis."""
        for m, ((x, y), axis) in enumerate(zip(PLANES, LINES, strict=True)):
            plane = self.planes[m][first[y] : stop[y], first[x] : stop[x]]
            self.planes[m] = nn.Parameter(plane.contiguous())
            self.lines[m] = nn.Parameter(self.lines[m][first[axis] : stop[axis]].contiguous())
        self.size = _checked((stop[0] - first[0], stop[1] - first[1], stop[2] - first[2]))

    def total_variation(self) -> Tensor:
        """TensoRF's: twice the mean squared difference of neighbours, along both sides of a plane, over all planes."""
        return torch.stack(
            [2 * (p.diff(dim=0).square().mean() + p.diff(dim=1).square().mean()) for p in self.planes]
        ).sum()

    def l1(self) -> Tensor:
        """TensoRF's: the mean absolute values of all planes and lines."""
        return torch.stack([grid.abs().mean() for grid in self.grids]).sum()

    @torch.no_grad()
    def add_penalty_gradients(self, total_variation: float, l1: float) -> None:
        """Add the gradients of ``total_variation * total_variation() + l1 * l1()`` to those that the grid has.

        In place and without a graph; the values themselves are not needed to train.
        """
        for plane in self.planes if total_variation else ():
            gradient = _gradient_of(plane)
            for axis in (0, 1):
                steps = plane.diff(dim=axis)
                steps *= 4 * total_variation / steps.numel()
                gradient.narrow(axis, 1, plane.shape[axis] - 1).add_(steps)
                gradient.narrow(axis, 0, plane.shape[axis] - 1).sub_(steps)
        for grid in self.grids if l1 else ():
            _gradient_of(grid).add_(grid.sign(), alpha=l1 / grid.numel())


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, grid: VMGrid, total: bool, known: Tensor | None, *grids: Tensor) -> Tensor:
        points, sizes = points.detach().contiguous(), torch.tensor(grid.size)
        if known is None:
            out = points.new_empty(len(points)) if total else points.new_empty(len(points), grid.width)
            run = grid_code.interpolate(grid.channels, total)
            run(points.data_ptr(), *addresses(grids), sizes.data_ptr(), out.data_ptr(), 0, len(points))
        else:
            out = known.clone()
        ctx.save_for_backward(points, *grids)
        ctx.sizes, ctx.channels, ctx.total = sizes, grid.channels, total
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        points, *grids = ctx.saved_tensors
        gradient, found = gradient.contiguous(), [torch.zeros_like(grid) for grid in grids]
        run = grid_code.add_gradients(ctx.channels, ctx.total)
        places = (points.data_ptr(), *addresses(grids), *addresses(found), ctx.sizes.data_ptr(), gradient.data_ptr())
        run(*places, 0, len(points))
        return None, None, None, None, *found


def addresses(tensors: Sequence[Tensor]) -> list[int]:
    """Where contiguous tensors begin."""
    assert all(tensor.is_contiguous() for tensor in tensors)
    return [tensor.data_ptr() for tensor in tensors]


def _sampled(image: Float[Tensor, "1 c h w"], at: Float[Tensor, "n 2"]) -> Float[Tensor, "n c"]:
    where = at.to(image.dtype)[None, :, None]
    return functional.grid_sample(image, where, padding_mode="border", align_corners=True)[0, :, :, 0].T


def _gradient_of(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _checked(size: Size) -> Size:
    if min(size) < 2:
        raise ValueError(f"A grid of {size} nodes has no cell")
    return size
