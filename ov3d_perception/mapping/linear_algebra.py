"""Matrix products so small that OpenBLAS starts no threads for them.

OpenBLAS's threads spin for some 30 ms after each product: on two cores, one is lost to the threads that share the
map's work (:mod:`thread_pool`). It computes products of up to 262144 multiplications on the calling thread.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

_MULTIPLICATIONS = 65536 * 4  # SMP_THRESHOLD_MIN * GEMM_MULTITHREAD_THRESHOLD of OpenBLAS


def product(left: Float[np.ndarray, "n c"], right: Float[np.ndarray, "c k"]) -> Float[np.ndarray, "n k"]:
    """left @ right."""
    rows = max(1, _MULTIPLICATIONS // max(right.size, 1))
    result = np.empty((len(left), right.shape[1]), np.result_type(left, right))
    stacked = len(left) // rows * rows
    if stacked:
        pieces = left[:stacked].reshape(-1, rows, left.shape[1])
        np.matmul(pieces, right, out=result[:stacked].reshape(-1, rows, right.shape[1]))
    np.matmul(left[stacked:], right, out=result[stacked:])
    return result


def gram(rows: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "c c"]:
    """rows.T @ rows."""
    size = max(1, _MULTIPLICATIONS // rows.shape[1] ** 2)
    stacked = len(rows) // size * size
    pieces, rest = rows[:stacked].reshape(-1, size, rows.shape[1]), rows[stacked:]
    return np.matmul(pieces.transpose(0, 2, 1), pieces).sum(0) + rest.T @ rest


def row_lengths(rows: Float[np.ndarray, "n c"]) -> Float[np.ndarray, " n"]:
    """Euclidean length of each row."""
    return np.sqrt(np.einsum("nc,nc->n", rows, rows))
