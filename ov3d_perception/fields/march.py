"""Where along its rays a field is looked at: in occupied cells, until nothing can be seen behind."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ov3d_perception.fields import grid_code
from ov3d_perception.fields.grid import VMGrid, addresses


@dataclass(frozen=True)
class MarchSettings:
    """step: in units of the rays' t. shift, scale: a grid's sum f gives an optical depth of about (f + shift) * scale
    a step. limit: optical depth at which a ray ends (9.2: one part in 10,000 comes through)."""

    step: float
    shift: float
    scale: float
    limit: float = 9.2


@dataclass(frozen=True)
class Samples:
    """k samples of n rays, in order of the rays and along each. points: in cells; sums: of the density grid there."""

    points: Float[Tensor, "k 3"]
    t: Float[Tensor, " k"]
    ray: Int[Tensor, " k"]
    sums: Float[Tensor, " k"]
    rays: int

    def __len__(self) -> int:
        return len(self.t)


@torch.no_grad()
def march(
    grid: VMGrid,
    occupied: UInt8[Tensor, "z y x"],
    lines: tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]],
    spans: Float[Tensor, "n 2"],
    offsets: Float[Tensor, " n"],
    settings: MarchSettings,
) -> Samples:
    """lines: origins and directions in cells of the grid, a unit of t being that of ``spans``; offsets: of the first
    sample, in steps. occupied: cells of another size over the same box."""
    run = _compiled if grid.compiled else _dense
    return run(grid, occupied, lines, spans, offsets, settings)


def _compiled(
    grid: VMGrid,
    occupied: Tensor,
    lines: tuple[Tensor, Tensor],
    spans: Tensor,
    offsets: Tensor,
    settings: MarchSettings,
) -> Samples:
    count = len(spans)
    steps = ((spans[:, 1] - spans[:, 0]) / settings.step).ceil().clamp_min(0).long() + 1
    room = int(steps.sum())  # of which only what is written takes memory
    points, t, sums = torch.empty(room, 3), torch.empty(room), torch.empty(room)
    ray, state = torch.empty(room, dtype=torch.int32), torch.zeros(1, dtype=torch.int64)
    terms = torch.tensor([settings.step, settings.shift, settings.scale, settings.limit])
    masks, sizes = torch.tensor(occupied.shape[::-1]), torch.tensor(grid.size)
    inputs = [tensor.float().contiguous() for tensor in (*lines, spans, offsets)]
    places = addresses([*inputs, terms, occupied, masks, *grid.grids, sizes, points, t, sums, ray, state])
    grid_code.march(grid.channels)(*places, 0, count)
    found = int(state)
    return Samples(points[:found], t[:found], ray[:found].long(), sums[:found], count)


def _dense(
    grid: VMGrid,
    occupied: Tensor,
    lines: tuple[Tensor, Tensor],
    spans: Tensor,
    offsets: Tensor,
    settings: MarchSettings,
) -> Samples:
    origins, directions = lines
    steps = int(((spans[:, 1] - spans[:, 0]) / settings.step).max().ceil().clamp_min(0)) + 1
    t = spans[:, :1] + settings.step * (offsets[:, None] + torch.arange(steps, device=spans.device))
    points = origins[:, None] + t[..., None] * directions[:, None]
    inside = t < spans[:, 1:]
    cells = torch.tensor(occupied.shape[::-1], device=spans.device)
    ratio = cells / (torch.tensor(grid.size, device=spans.device) - 1)
    x, y, z = (points * ratio).long().clamp_min(0).minimum(cells - 1).unbind(-1)
    inside &= occupied[z, y, x] > 0
    sums = torch.zeros_like(t)
    sums[inside] = grid.sum(points[inside])
    depth = (sums + settings.shift).clamp_min(0) * settings.scale * inside
    inside &= depth.cumsum(1) - depth < settings.limit
    ray = torch.arange(len(t), device=t.device)[:, None].expand_as(t)
    return Samples(points[inside], t[inside], ray[inside], sums[inside], len(t))
