"""Threads for a map's work, with all operations of each on one core.

Queries and the writer have crews of their own: the writer waits for its crew while it holds the map's lock, and the
crew of a query waits for that lock. So with one crew for both, each could wait for the other.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from threading import Barrier
from typing import ParamSpec, TypeVar

import torch

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
        return _pool(self.name, torch.get_num_threads(), os.getpid()).submit(work, *args, **kwargs)


QUERIES, WRITER = Crew("queries"), Crew("writer")


@cache
def _pool(name: str, threads: int, process: int) -> ThreadPoolExecutor:
    """A pool for each process, since threads do not survive a fork."""
    started = Barrier(threads + 1)
    pool = ThreadPoolExecutor(threads, name, initializer=_one_core)
    for _ in range(threads):
        pool.submit(started.wait)
    started.wait()
    torch.set_num_threads(threads)  # which the members have set for themselves and for threads to come
    return pool


def _one_core() -> None:
    """For this thread. PyTorch gives a thread the whole process's number at its first operation, or when it is asked
    for the number: without asking, the one set here would be overwritten then."""
    torch.get_num_threads()
    torch.set_num_threads(1)
