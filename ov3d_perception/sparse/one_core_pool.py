"""Pools of threads that use one core each.

PyTorch lets each operation be shared by all cores. Where several pieces of work go on at once, that is slower than to
give each piece a core: the shares of every operation wait for each other.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier, Lock

import torch

_making = Lock()


def one_core_pool(name: str, threads: int) -> ThreadPoolExecutor:
    """The pool of that name with so many threads, in each of which PyTorch's operations use one core. Made once."""
    with _making:
        return _made(name, threads, os.getpid())


@cache
def _made(name: str, threads: int, process: int) -> ThreadPoolExecutor:
    """One for each process, since threads do not survive a fork."""
    before = torch.get_num_threads()
    started = Barrier(threads + 1)
    pool = ThreadPoolExecutor(threads, name, initializer=_one_core)
    for _ in range(threads):
        pool.submit(started.wait)
    started.wait()
    torch.set_num_threads(before)  # which the pool's threads have set for themselves and for threads to come
    return pool


def _one_core() -> None:
    """For this thread. PyTorch gives a thread the whole process's number at its first operation, or when it is asked
    for the number: without asking, the one set here would be overwritten then.
    """
    torch.get_num_threads()
    torch.set_num_threads(1)
