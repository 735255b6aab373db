"""Cosines of f_3D = z W with vectors of the teacher's space, without f_3D: the network's head W is linear.

    cos(z W, t) = z . (W t) / sqrt(z W W^T z)

z has some fifty channels where f_3D has hundreds, so a loss of cosines costs little even where all points take part.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_LEAST = 1e-12
"""Of a squared length, so that the zero vector is orthogonal to all."""


class HeadCosines:
    """Of the features z of some points, in float32 whatever the autocast.

    Args:
        points: z. head: W.
    """

    def __init__(self, points: Float[Tensor, "n c"], head: Float[Tensor, "c d"]) -> None:
        self.points, self.head = points.float(), head.float()
        self._device = points.device.type
        with torch.autocast(self._device, enabled=False):
            squared = torch.linalg.vecdot(self.points @ (self.head @ self.head.T), self.points)
            self._inverse = squared.clamp_min(_LEAST).rsqrt()

    def with_each(self, others: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Of each point's f_3D with its own vector, which has unit norm."""
        with torch.autocast(self._device, enabled=False):
            return torch.linalg.vecdot(self.points, others.float() @ self.head.T) * self._inverse

    def with_all(self, others: Float[Tensor, "w d"]) -> Float[Tensor, "n w"]:
        """Of each point's f_3D with all vectors, which have unit norm."""
        with torch.autocast(self._device, enabled=False):
            return self.points @ (self.head @ others.float().T) * self._inverse[:, None]
