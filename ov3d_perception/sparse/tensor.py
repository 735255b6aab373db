"""Features on occupied voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ov3d_perception.sparse.backends import make_manager
from ov3d_perception.sparse.coordinates import CoordinateManager
from ov3d_perception.sparse.runtime import arena


@dataclass(frozen=True, init=False)
class SparseTensor:
    """feats: (N, C), one row a voxel; stride: edge of this tensor's grid in voxels; manager: the coordinates.

    ``SparseTensor(feats, coords)`` starts a new manager from ``[batch, x, y, z]`` rows (see :func:`quantize`); layers
    make further tensors on the same one. ``backend`` names what convolves: see
    :func:`~ov3d_perception.sparse.backends.make_manager`. ``.coords`` are in units of the finest voxel, multiples of
    ``stride``.
    """

    feats: Float[Tensor, "n c"]
    stride: int
    manager: CoordinateManager

    def __init__(
        self,
        feats: Float[Tensor, "n c"],
        coords: Int64[Tensor, "n 4"] | None = None,
        stride: int = 1,
        manager: CoordinateManager | None = None,
        backend: str = "torch",
    ) -> None:
        if manager is None:
            if coords is None:
                raise ValueError("A sparse tensor needs coordinates or a coordinate manager")
            manager = make_manager(backend, coords, stride)
        if len(feats) != len(manager.voxels(stride)):
            raise ValueError(f"{len(feats)} features for {len(manager.voxels(stride))} voxels at stride {stride}")
        object.__setattr__(self, "feats", feats)
        object.__setattr__(self, "stride", stride)
        object.__setattr__(self, "manager", manager)

    @property
    def coords(self) -> Int64[Tensor, "n 4"]:
        """[batch, x, y, z] of each row."""
        return self.manager.voxels(self.stride).coords

    def replace(self, feats: Float[Tensor, "n d"]) -> SparseTensor:
        """The same voxels with other features."""
        return SparseTensor(feats, stride=self.stride, manager=self.manager)

    def beside(self, tensors: Sequence[SparseTensor]) -> SparseTensor:
        """See :func:`cat`; this tensor is the first of them."""
        if any(t.manager is not self.manager or t.stride != self.stride for t in tensors):
            raise ValueError("Only tensors on the same voxels can be concatenated")
        feats = [t.feats for t in tensors]
        if torch.is_grad_enabled() or len({part.dtype for part in feats}) > 1:
            return self.replace(torch.cat(feats, dim=1))
        out = arena.empty(len(self), sum(part.shape[1] for part in feats), feats[0])
        return self.replace(torch.cat(feats, dim=1, out=out))

    def __len__(self) -> int:
        return len(self.feats)


def cat(tensors: Sequence[SparseTensor]) -> SparseTensor:
    """Channels of several tensors on the same voxels, side by side."""
    return tensors[0].beside(tensors)
