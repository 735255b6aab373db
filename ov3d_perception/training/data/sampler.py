"""The order of the frames of an epoch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochSampler(Sampler[tuple[int, int]]):
    """(epoch, index), shuffled by (seed, epoch) alone: a resumed run sees the order that it would have seen.

    rank, world, batch: of several processes each takes its ``batch`` out of every ``world`` * ``batch``, so that a step
    of all of them sees what one process with the larger batch would; an epoch's last step is filled up from its start.
    """

    def __init__(self, size: int, repeat: int, seed: int, rank: int = 0, world: int = 1, batch: int = 1) -> None:
        self.size, self.repeat, self.seed, self.epoch = size, repeat, seed, 0
        self.rank, self.world, self.batch = rank, world, batch

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        turns = range(self.epoch * self.repeat, (self.epoch + 1) * self.repeat)
        keys = [(t, int(i)) for t in turns for i in np.random.default_rng((self.seed, t)).permutation(self.size)]
        if self.world == 1:
            return iter(keys)
        step, first = self.world * self.batch, self.rank * self.batch
        return (
            keys[(start + first + offset) % len(keys)]
            for start in range(0, len(keys), step)
            for offset in range(self.batch)
        )

    def __len__(self) -> int:
        total = self.size * self.repeat
        return total if self.world == 1 else -(-total // (self.world * self.batch)) * self.batch
