"""Points to voxels and back."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ov3d_perception.errors import PointCloudError
from ov3d_perception.sparse.keys import LIMIT, pack, unpack
from ov3d_perception.sparse.unique import unique_keys


def quantize(
    xyz: Float[Tensor, "n 3"],
    voxel_size: float,
    feats: Float[Tensor, "n c"],
    batch: Int64[Tensor, " n"] | None = None,
) -> tuple[Int64[Tensor, "v 4"], Float[Tensor, "v c"], Int64[Tensor, " n"]]:
    """Occupied voxels ``floor(xyz / voxel_size)``, the mean feature of each, and the voxel row of each point.

    Rows are sorted by (batch, x, y, z), the order in which convolutions are fastest. Raises PointCloudError for
    non-finite points and for a cloud wider than the key range.
    """
    cells = torch.floor(xyz / voxel_size)
    if len(xyz) and not bool((cells.abs() <= LIMIT).all()):
        raise PointCloudError(
            f"Points are not finite or further than {LIMIT * voxel_size:.0f} m from the origin",
            "Drop or crop such points, or take a larger voxel",
        )
    if batch is None:
        batch = torch.zeros(len(xyz), dtype=torch.int64, device=xyz.device)
    keys, rows = unique_keys(pack(torch.cat([batch[:, None], cells.long()], dim=1)))
    inverse = rows.long()
    count = torch.bincount(inverse, minlength=len(keys)).to(feats.dtype)
    mean = feats.new_zeros(len(keys), feats.shape[1]).index_add_(0, inverse, feats) / count[:, None]
    return unpack(keys), mean, inverse
