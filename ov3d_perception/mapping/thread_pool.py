"""Threads that share a map's work; numpy and OpenCV let them run at the same time.

Queries and the writer have a pool each: the writer waits for its pool while it holds the map's lock, and the pool of a
query waits for that lock. With one pool for both, each could wait for the other.

No thread waits for work that has not begun: it does that work itself. So work ends even when no thread of the pool is
free, and at most as many threads work as there are cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import TypeVar

T = TypeVar("T")
_making = Lock()


def thread_count() -> int:
    """$OMP_NUM_THREADS where it is set, else the number of cores that this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if given.isdecimal() and int(given):
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class ThreadPool:
    """The calling thread and :func:`thread_count` - 1 helpers. Pools of one name share their helpers."""

    name: str

    def map_slices(self, count: int, size: int, work: Callable[[slice], None]) -> None:
        """Call ``work`` with slices of at most ``size`` that cover 0 to ``count``, on all threads of the pool.

        A single slice is worked on by the calling thread. An exception of ``work`` is raised here.
        """
        threads = thread_count()
        if count > size:
            slices = -(-count // size)
            size = -(-count // (slices + -slices % threads))
        starts = iter(range(0, count, size))

        def take_slices() -> None:
            for start in starts:
                work(slice(start, min(start + size, count)))

        helpers = [self.start(take_slices) for _ in range(min(threads, -(-count // size)) - 1)]
        try:
            take_slices()
        finally:
            for finish in helpers:
                finish()

    def start(self, work: Callable[[], T]) -> Callable[[], T]:
        """Start ``work`` on a helper. Call the returned function once for the result; it runs ``work`` itself if no
        helper has begun it."""
        future = _helpers(self.name, max(thread_count() - 1, 1)).submit(work)
        return lambda: work() if future.cancel() else future.result()


def _helpers(name: str, threads: int) -> ThreadPoolExecutor:
    with _making:
        return _executor(name, threads, os.getpid())


@cache
def _executor(name: str, threads: int, process: int) -> ThreadPoolExecutor:
    """One for each process, since threads do not survive a fork."""
    return ThreadPoolExecutor(threads, name)


QUERIES, WRITER = ThreadPool("queries"), ThreadPool("writer")
