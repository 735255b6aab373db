"""Threads for a map's work, with all operations of each on one core.

Queries and the writer have crews of their own: the writer waits for its crew while it holds the map's lock, and the
crew of a query waits for that lock. So with one crew for both, each could wait for the other.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import torch

from ov3d_perception.threads import one_core_pool

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True)
class Crew:
    """As many threads as PyTorch uses. None of their work may wait for the same crew."""

    name: str

    def share(self, count: int, size: int, work: Callable[[slice], None]) -> None:
        """Calls ``work`` with slices of ``size`` that make up 0 to ``count``: the threads share them; here if there is
        only one slice or thread."""
        threads, rest = torch.get_num_threads(), iter(range(0, count, size))

        def several() -> None:
            for start in rest:
                work(slice(start, min(start + size, count)))

        if threads < 2 or count <= size:
            several()
            return
        for done in [self.submit(several) for _ in range(min(threads, -(-count // size)))]:
            done.result()

    def submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Calls ``work`` in one of the threads."""
        return one_core_pool(self.name, torch.get_num_threads()).submit(work, *args, **kwargs)


QUERIES, WRITER = Crew("queries"), Crew("writer")
