"""Pools of threads that use one core each.

PyTorch splits each operation over all cores. Where several pieces of work run at once, one core a piece is faster: the
parts of an operation then do not wait for each other.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier, Lock

import torch

_making = Lock()


def one_core_pool(name: str, threads: int) -> ThreadPoolExecutor:
    """The pool of a name and number of threads, made once. PyTorch's operations use one core in each thread."""
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
    torch.set_num_threads(before)  # the pool's threads have set it for later threads, too
    return pool


def _one_core() -> None:
    """For this thread. PyTorch sets the number at a thread's first operation or query, so it is queried first."""
    torch.get_num_threads()
    torch.set_num_threads(1)
