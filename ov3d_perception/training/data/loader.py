"""Batches for a training: the next one is made while the step is at work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from ov3d_perception.sparse.runtime.one_core_pool import one_core_pool
from ov3d_perception.training.data.clouds import CloudBatch


class Loader(DataLoader[CloudBatch]):
    """A DataLoader that, without worker processes, makes the next batch in a thread beside the step.

    A thread needs no shared memory and ends with its process; compiled code and PyTorch's run beside the step's.
    Batches are the same as without it, in the same order.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """The batches of an epoch."""
        batches = super().__iter__()
        if self.num_workers:
            yield from batches
            return
        pool = one_core_pool("batches", 1)
        coming = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield batch
