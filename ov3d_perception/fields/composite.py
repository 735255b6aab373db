"""Volume rendering of samples that lie ray by ray in one list: the sums of equations (1) and (2)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def weights(depth: Float[Tensor, " k"], ray: Int[Tensor, " k"], rays: int) -> Float[Tensor, " k"]:
    """``T_i alpha_i`` with ``alpha_i = 1 - exp(-depth_i)`` and ``T_i`` the product of all ``1 - alpha_j`` before it.

    depth: sigma times the step's length; ray: ascending.
    """
    count = torch.bincount(ray, minlength=rays)
    first = (count.cumsum(0) - count)[ray]
    wide = depth.double()
    before = wide.cumsum(0) - wide  # a long sum of small numbers
    through = torch.exp((before[first] - before).clamp_max(0)).to(depth.dtype)
    return through * -torch.expm1(-depth)


def over_rays(values: Float[Tensor, "k c"], ray: Int[Tensor, " k"], rays: int) -> Float[Tensor, "n c"]:
    """Sum of the rows of each ray."""
    return values.new_zeros(rays, values.shape[1]).index_add(0, ray, values)


def quantile(
    weight: Float[Tensor, " k"], t: Float[Tensor, " k"], ray: Int[Tensor, " k"], rays: int, share: float
) -> Float[Tensor, " n"]:
    """The t of each ray up to which it has collected ``share`` of its weight; 0 for a ray without any.

    0.5 is a surface's place even where a part of the ray ends behind it, where the mean lies between the two.
    """
    count = torch.bincount(ray, minlength=rays)
    wide = weight.double()
    until = wide.cumsum(0)
    before = (until - wide)[(count.cumsum(0) - count)[ray]]
    wanted = share * over_rays(wide[:, None], ray, rays)[ray, 0]
    reached = torch.nonzero((until - before >= wanted) & (until - before - wide < wanted))[:, 0]
    found = t.new_zeros(rays)
    found[ray[reached]] = t[reached]
    return found
