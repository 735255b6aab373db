"""A scan's features as observations of voxels, and into the means that are kept; on all cores."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int64

from ov3d_perception.geometry.voxels import voxel_keys
from ov3d_perception.mapping.columns import Columns
from ov3d_perception.mapping.compact import Projection, Quantiser, averaged, normalised, restored
from ov3d_perception.mapping.thread_pool import WRITER

_ROWS = 8192  # at a time; with fewer, the calls take longer than what the cache saves


def observed(
    projection: Projection, voxel_size: float, centres: Float32[np.ndarray, "v 3"], features: Float32[np.ndarray, "v c"]
) -> tuple[Int64[np.ndarray, " k"], Float32[np.ndarray, "k d"]]:
    """Distinct voxel keys, ascending, and the mean unit-scaled feature of each; what is not finite is left out."""
    unit, length = projection(features)
    x, y, z = centres.T
    good = np.isfinite(x + y + z + length) & (length > 1e-9)
    if not good.all():
        centres, unit = centres[good], unit[good]
    return averaged(voxel_keys(centres, voxel_size), unit)


def blend(
    columns: Columns,
    rows: Int64[np.ndarray, " n"],
    means: Float32[np.ndarray, "n c"],
    share: Float32[np.ndarray, " n"],
    quantise: Quantiser,
    revision: int,
) -> Float32[np.ndarray, "n c"]:
    """Move the features of distinct rows by a share (0..1) of the way to ``means``; the directions they have then."""
    unit, line = np.empty_like(means), np.dtype((np.void, columns.features.shape[1]))
    features = columns.features.view(line)[:, 0]  # a row as one thing is copied twice as fast

    def work(part: slice) -> None:
        at = rows[part]
        mean = restored(columns.features.take(at, 0), columns.factor.take(at))
        step = means[part] - mean
        step *= share[part, None]
        mean += step
        values, columns.factor[at] = quantise(mean, at, revision)
        features[at] = values.view(line)[:, 0]
        unit[part] = normalised(mean)

    WRITER.map_slices(len(rows), _ROWS, work)
    return unit
