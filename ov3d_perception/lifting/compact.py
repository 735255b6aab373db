"""Features in little room: principal directions of a teacher's maps, and a byte for each.

CLIP's patch features lie near a subspace: of ViT-B/16's 512 directions 64 hold 96 % of their second moments on streets,
and words are told apart as well in them (docs/teachers.md). A unit feature of 1 kB in half precision takes 66 bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float, Float16, Int8, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag

_LEVELS = 127


@dataclass(frozen=True, eq=False)
class Compact:
    """n features, quantised: row i is code[i] * scale[i] in the coordinates of a basis."""

    code: Int8[np.ndarray, "n k"]
    scale: Float16[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.code)

    def features(self) -> Float[Tensor, "n k"]:
        """The features, float32, in the basis's coordinates."""
        return torch.from_numpy(self.code).float() * torch.from_numpy(self.scale.astype(np.float32))[:, None]

    def sums(
        self, row: Int64[np.ndarray, " m"], target: Int64[np.ndarray, " m"], count: int
    ) -> Float[Tensor, "count k"]:
        """Of each target below ``count`` the sum of the features of its rows; zero where it has none."""
        weight, shape = self.scale.astype(np.float32)[row], (count, len(self))
        matrix = scipy.sparse.coo_array((weight, (target.astype(np.int32), row.astype(np.int32))), shape).tocsr()
        if matrix.nnz == 0:
            return torch.zeros(count, self.code.shape[1])
        rows, start, weights = (torch.from_numpy(part) for part in (matrix.indices, matrix.indptr, matrix.data))
        code = torch.from_numpy(self.code).float()
        return embedding_bag(rows, code, start, mode="sum", include_last_offset=True, per_sample_weights=weights)


def compact(features: Float[Tensor, "n k"]) -> Compact:
    """Each row in a byte a channel; its greatest element keeps its value to half precision."""
    scale = (features.abs().amax(1).clamp_min(1e-6) / _LEVELS).half()
    code = (features / scale.float()[:, None]).round().clamp(-_LEVELS, _LEVELS)
    return Compact(code.to(torch.int8).numpy(), scale.numpy())


def principal_basis(maps: Iterable[Float[Tensor, "d _ _"]], size: int) -> Float[Tensor, "k d"]:
    """Orthonormal rows: the directions of most second moment over all patches of the maps, each map weighing the same.

    size: how many; all, as they are, where it is 0 or no less than the maps have. Raises ValueError without a map.
    """
    moments: Float[Tensor, "d d"] | None = None
    for dense in maps:
        patches = dense.flatten(1).double()
        product = patches @ patches.T / patches.shape[1]
        moments = product if moments is None else moments + product
        if not 0 < size < len(product):
            return torch.eye(len(product))
    if moments is None:
        raise ValueError("There is no map to find directions of")
    directions = torch.linalg.eigh(moments)[1]  # ascending
    return directions[:, -size:].flip(1).T.float().contiguous()
