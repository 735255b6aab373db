"""GGSD's superpoints of samples, found once and kept beside them; and those of a batch's voxels."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from ov3d_perception.errors import DatasetError
from ov3d_perception.files import replacing
from ov3d_perception.geometry.superpoints import Vccs, superpoints
from ov3d_perception.lifting.pairs import Sample
from ov3d_perception.recipes.method_specs import GgsdSpec


def stored_superpoints(path: Path, sample: Sample, spec: GgsdSpec) -> Int64[np.ndarray, " n"]:
    """The superpoint of each point of the sample at ``path``, kept beside it under a name of the settings.

    Raises DatasetError where the file that keeps them is damaged.
    """
    settings = f"{spec.voxel:g}-{spec.seed:g}-{spec.near or 0:g}"
    kept = path.with_name(f"{path.stem}.vccs-{settings}.npz")
    if not kept.exists():
        options = Vccs(voxel=spec.voxel, seed=spec.seed, near=spec.near)
        found = superpoints(sample.xyz, sample.intensity[:, None], options)
        with replacing(kept, durable=False) as file:
            np.savez_compressed(file, superpoint=found.astype(np.int32))
    try:
        with np.load(kept) as stored:
            number: np.ndarray = stored["superpoint"]
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise DatasetError(f"The superpoints {kept} cannot be read ({error})", "Remove the file") from error
    return number.astype(np.int64)


def voxel_superpoints(
    voxel: Int64[Tensor, " n"], superpoint: Int64[Tensor, " n"], voxels: int
) -> Int64[Tensor, " voxels"]:
    """The superpoint of most points of each voxel, of equals the lowest; points of none (-1) count likewise.

    Args:
        voxel: row of each point's voxel; every voxel has a point.
        superpoint: of each point.
        voxels: how many there are.
    """
    base = int(superpoint.max()) + 2 if len(superpoint) else 1
    both, count = torch.unique(voxel * base + superpoint + 1, return_counts=True)
    rank = count * base + (base - 1 - both % base)
    best = rank.new_zeros(voxels).scatter_reduce(0, both // base, rank, "amax")
    return base - 2 - best % base
