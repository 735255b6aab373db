"""Point features at one byte a channel, in orthonormal coordinates.

The head is linear: a feature z has the embedding z W. With W = U S V^T and any rotation R, coordinates u = z U S R
keep all lengths and angles of z W, and a text t has the coordinates R^T V^T t. R is a fixed random rotation: it spreads
each feature over all channels, so that one quantisation step a voxel fits them all. Of heads with more than
``CHANNELS`` channels, the directions with the smallest singular values are dropped (benchmarks/map.py prints the loss).
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float16, Float32, Int8, Int64

from ov3d_perception.mapping.linear_algebra import product, row_lengths
from ov3d_perception.mapping.sorting import argsort_voxel_keys
from ov3d_perception.mapping.thread_pool import WRITER

CHANNELS = 54  # with 54 bytes of features, a voxel takes less than 100 bytes in all
_LEVELS = 127
_DITHERS = 257  # a prime, so that rows and revisions combine with all of them
_ROWS = 2048  # at a time
_HALF_STEP = 3e-8  # of the smallest float16: added so that no factor is rounded down


class Projection:
    """From point features z (C channels) to coordinates u (c <= CHANNELS).

    head: W, (C, D). basis: orthonormal rows (c, D); u @ basis is the embedding z W, less the dropped directions.
    """

    def __init__(self, head: Float32[np.ndarray, "c d"]) -> None:
        self.head = np.asarray(head, np.float32)
        left, singular, right = np.linalg.svd(self.head.astype(np.float64), full_matrices=False)
        kept = min(CHANNELS, len(singular))
        turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(kept, kept)))
        self.basis: Float32[np.ndarray, "k d"] = (turn.T @ right[:kept]).astype(np.float32)
        scaled = left * singular
        self._matrix = np.hstack([scaled[:, :kept] @ turn, scaled[:, kept:]]).astype(np.float32)

    @property
    def channels(self) -> int:
        """c, the length of u."""
        return len(self.basis)

    def __call__(
        self, features: Float32[np.ndarray, "v c"]
    ) -> tuple[Float32[np.ndarray, "v k"], Float32[np.ndarray, " v"]]:
        """u of the embeddings scaled to length 1, and their lengths before; for length 0, u is not finite."""
        z = np.ascontiguousarray(features, np.float32)
        unit, length = np.empty((len(z), self.channels), np.float32), np.empty(len(z), np.float32)

        def work(part: slice) -> None:
            whole = product(z[part], self._matrix)
            length[part] = row_lengths(whole)
            with np.errstate(divide="ignore", invalid="ignore"):
                np.divide(whole[:, : self.channels], length[part, None], out=unit[part])

        WRITER.map_slices(len(z), _ROWS, work)
        return unit, length


class Quantiser:
    """Rows of floats to bytes and one factor a row, rounded without bias, so that small steps add up to the mean.

    A fixed table of dithers, chosen by row and revision, makes the rounding reproducible.
    """

    def __init__(self, channels: int) -> None:
        self._dither = np.random.default_rng(1).random((_DITHERS, channels), np.float32)

    def __call__(
        self, values: Float32[np.ndarray, "n c"], rows: Int64[np.ndarray, " n"], revision: int
    ) -> tuple[Int8[np.ndarray, "n c"], Float16[np.ndarray, " n"]]:
        """Bytes, and factors: byte * factor is the value, to within one factor."""
        if not len(values):
            return np.empty(values.shape, np.int8), np.empty(0, np.float16)
        largest = cv2.transpose(np.abs(values)).max(0)  # twice as fast as max(1)
        factor = np.maximum(largest * np.float32(1.001 / _LEVELS) + np.float32(_HALF_STEP), 1e-6).astype(np.float16)
        steps = values * np.reciprocal(factor.astype(np.float32))[:, None]
        steps += self._dither.take((rows + 31 * revision) % _DITHERS, 0)
        np.clip(np.floor(steps, out=steps), -_LEVELS, _LEVELS, out=steps)
        return steps.astype(np.int8), factor


def dequantise(values: Int8[np.ndarray, "n c"], factor: Float16[np.ndarray, " n"]) -> Float32[np.ndarray, "n c"]:
    """The inverse of :class:`Quantiser`."""
    result = values.astype(np.float32)
    result *= factor.astype(np.float32)[:, None]
    return result


def normalise_rows(values: Float32[np.ndarray, "n c"]) -> Float32[np.ndarray, "n c"]:
    """Rows of length 1; zeros stay zeros."""
    return values / np.maximum(row_lengths(values), 1e-12)[:, None]


def mean_by_key(
    keys: Int64[np.ndarray, " v"], values: Float32[np.ndarray, "v c"]
) -> tuple[Int64[np.ndarray, " k"], Float32[np.ndarray, "k c"]]:
    """Distinct keys, ascending, and the mean of the rows of each."""
    order = argsort_voxel_keys(keys)
    keys = keys.take(order)
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    count = np.diff(first, append=len(keys))
    mean = values.take(order[first], 0)
    for nth in range(1, count.max(initial=1)):  # few: how many features fall into one voxel
        shared = np.flatnonzero(count > nth)
        mean[shared] += (values[order[first[shared] + nth]] - mean[shared]) * np.float32(1 / (nth + 1))
    return keys[first], mean
