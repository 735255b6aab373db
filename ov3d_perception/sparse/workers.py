"""Blocks spread over threads.

Each thread works through blocks of its own with all operations on its one core. That is faster than to let each
operation be shared by all cores: those wait for each other thousands of times in a network, and Python for all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import Any, TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def spread(work: Callable[[Iterable[T]], R], items: list[T], device: torch.device, fixed: bool = False) -> list[R]:
    """Calls ``work`` once in each of as many threads as PyTorch uses, with an iterator over its items; their results.

    Whoever is first takes the next item; ``fixed``: thread i takes the items i, i + threads, ..., come what may. On a
    GPU, for a single item or a single thread it is called here. Gradients are not recorded.
    """
    threads = min(torch.get_num_threads(), len(items))
    if threads < 2 or device.type != "cpu":
        return [work(items)]
    inference, shared = torch.is_inference_mode_enabled(), iter(items)

    def run(number: int) -> R:
        with torch.inference_mode() if inference else torch.no_grad():
            return work(items[number::threads] if fixed else shared)

    pool = _pool(torch.get_num_threads(), os.getpid())
    return [done.result() for done in [pool.submit(run, number) for number in range(threads)]]


def aside(work: Callable[..., R], *args: Any) -> Future[R]:
    """``work(*args)`` in a thread of its own, one such piece of work after the other, on one core."""

    def run() -> R:
        with torch.no_grad():
            return work(*args)

    return _pool(1, os.getpid(), "sparse-aside").submit(run)


@cache
def _pool(threads: int, process: int, name: str = "sparse") -> ThreadPoolExecutor:
    """Threads whose operations use one core each. One pool for each process, since threads do not survive a fork."""
    before = torch.get_num_threads()
    started = Barrier(threads + 1)
    pool = ThreadPoolExecutor(threads, name, initializer=_one_core)
    for _ in range(threads):
        pool.submit(started.wait)
    started.wait()
    torch.set_num_threads(before)  # which the workers have set for themselves and for threads to come
    return pool


def _one_core() -> None:
    """For this thread. PyTorch gives a thread the whole process's number at its first operation, or when it is asked
    for the number: without asking, the one set here would be overwritten then.
    """
    torch.get_num_threads()
    torch.set_num_threads(1)
