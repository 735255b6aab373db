"""Threads for a map's work, with all operations of each on one core.

Queries and the writer have crews of their own: the writer waits for its crew while it holds the map's lock, and the
crew of a query waits for that lock. So with one crew for both, each could wait for the other.

Within a crew nobody waits for what has not begun: who shares work does a part of it, and then what is left. So one
thread is enough for any work to end, and there are no more threads at work than cores.

Linux wakes a thread on the core where it ran last, even if the one that wakes it goes on working there: on two busy
cores it may let both take turns on one for seconds. So those who help are kept off the core of who asks them to.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial, wraps
from threading import get_native_id, local
from typing import ParamSpec, TypeVar

import torch

from ov3d_perception.threads import one_core_pool

T = TypeVar("T")
P = ParamSpec("P")
_this_thread = local()  # crew: the one that it works for
_helpers: dict[tuple[str, int], set[int]] = {}  # by pool's name and process: the system's numbers of its threads


@dataclass(frozen=True)
class Crew:
    """As many threads as PyTorch uses."""

    name: str

    def share(self, count: int, size: int, work: Callable[[slice], None]) -> None:
        """Calls ``work`` with slices of at most ``size`` that make up 0 to ``count``: the threads share them, as many
        for each; here if there is only one slice or thread."""
        threads = self._threads()
        if count > size:
            parts = -(-count // size)
            size = -(-count // (parts + -parts % threads))
        rest = iter(range(0, count, size))

        def several() -> None:
            for start in rest:
                work(slice(start, min(start + size, count)))

        def together() -> None:
            others = [self.aside(several) for _ in range(min(threads, -(-count // size)) - 1)]
            try:
                several()
            finally:
                for other in others:
                    other()

        several() if threads < 2 or count <= size else self.led(together)()

    def led(self, work: Callable[P, T]) -> Callable[P, T]:
        """The same work, done in one of the threads: its shares begin sooner than from a thread outside."""

        @wraps(work)
        def begun(*args: P.args, **kwargs: P.kwargs) -> T:
            return work(*args, **kwargs) if self._here() else self.submit(work, *args, **kwargs).result()

        return begun

    def aside(self, work: Callable[[], T]) -> Callable[[], T]:
        """Begins work in one of the threads; call what is returned, once, for its result. What has not begun by then
        is done there."""
        pool, numbers = self._helpers(), _helpers.setdefault((self.name, os.getpid()), set())

        def begin() -> T:
            numbers.add(get_native_id())
            return self._member(1, work)

        _keep_off_this_core(numbers)
        done = pool.submit(begin)
        return lambda: work() if done.cancel() else done.result()

    def submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Calls ``work`` in one of the threads. Not to be waited for in another of them: see :meth:`aside`."""
        threads = self._threads()
        if not self._here():
            self._helpers()  # making a pool sets PyTorch's threads for the process as they are where it is made
        return one_core_pool(self.name, threads).submit(self._member, threads, partial(work, *args, **kwargs))

    def _helpers(self) -> Executor:
        return one_core_pool(f"{self.name}-aside", max(self._threads() - 1, 1))

    def _member(self, threads: int, work: Callable[[], T]) -> T:
        _this_thread.crew = self.name, threads
        return work()

    def _here(self) -> bool:
        return getattr(_this_thread, "crew", ("", 0))[0] == self.name

    def _threads(self) -> int:
        return int(_this_thread.crew[1]) if self._here() else torch.get_num_threads()


def _keep_off_this_core(threads: set[int]) -> None:
    """Let these threads of this process run on any core it may use but this thread's, if there are others."""
    if _which_core is None or not hasattr(os, "sched_setaffinity"):
        return
    others = os.sched_getaffinity(os.getpid()) - {_which_core()}
    with suppress(OSError):  # where that is not allowed
        for number in tuple(threads) if others else ():
            os.sched_setaffinity(number, others)


_which_core: Callable[[], int] | None = getattr(ctypes.CDLL(None), "sched_getcpu", None)
QUERIES, WRITER = Crew("queries"), Crew("writer")
