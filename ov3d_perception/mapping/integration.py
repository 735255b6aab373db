"""A scan's features averaged by voxel, and blended into the map's means, on all cores."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int64

from ov3d_perception.geometry.voxels import voxel_keys
from ov3d_perception.mapping.quantisation import Projection, Quantiser, dequantise, mean_by_key, normalise_rows
from ov3d_perception.mapping.thread_pool import WRITER
from ov3d_perception.mapping.voxel_table import VoxelTable

_ROWS = 8192  # at a time; with fewer, the overhead of the calls outweighs the cache


def observe(
    projection: Projection, voxel_size: float, centres: Float32[np.ndarray, "v 3"], features: Float32[np.ndarray, "v c"]
) -> tuple[Int64[np.ndarray, " k"], Float32[np.ndarray, "k d"]]:
    """Distinct voxel keys, ascending, and the mean unit-scaled feature of each; rows that are not finite are
    skipped."""
    unit, length = projection(features)
    x, y, z = centres.T
    good = np.isfinite(x + y + z + length) & (length > 1e-9)
    if not good.all():
        centres, unit = centres[good], unit[good]
    return mean_by_key(voxel_keys(centres, voxel_size), unit)


def blend(
    columns: VoxelTable,
    rows: Int64[np.ndarray, " n"],
    means: Float32[np.ndarray, "n c"],
    share: Float32[np.ndarray, " n"],
    quantise: Quantiser,
    revision: int,
) -> Float32[np.ndarray, "n c"]:
    """Move the features of distinct rows by a share (0..1) of the way to ``means``; returns their unit vectors."""
    unit, line = np.empty_like(means), np.dtype((np.void, columns.features.shape[1]))
    features = columns.features.view(line)[:, 0]  # whole rows are copied twice as fast

    def work(part: slice) -> None:
        at = rows[part]
        mean = dequantise(columns.features.take(at, 0), columns.factor.take(at))
        step = means[part] - mean
        step *= share[part, None]
        mean += step
        values, columns.factor[at] = quantise(mean, at, revision)
        features[at] = values.view(line)[:, 0]
        unit[part] = normalise_rows(mean)

    WRITER.map_slices(len(rows), _ROWS, work)
    return unit
