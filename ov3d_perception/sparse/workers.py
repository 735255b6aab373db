"""Blocks spread over threads.

Each thread works through blocks of its own with all operations on its one core. That is faster than to let each
operation be shared by all cores: those wait for each other thousands of times in a network, and Python for all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import TypeVar

import torch

T = TypeVar("T")


def spread(work: Callable[[Iterable[T]], None], items: list[T], device: torch.device) -> None:
    """Calls ``work`` once in each of as many threads as PyTorch uses, with an iterator over items that they share.

    On a GPU, for a single item or a single thread it is called here. Gradients are not recorded.
    """
    threads = min(torch.get_num_threads(), len(items))
    if threads < 2 or device.type != "cpu":
        work(items)
        return
    inference, shared = torch.is_inference_mode_enabled(), iter(items)

    def run() -> None:
        with torch.inference_mode() if inference else torch.no_grad():
            work(shared)

    for done in [_pool(torch.get_num_threads(), os.getpid()).submit(run) for _ in range(threads)]:
        done.result()


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads whose operations use one core each. One pool for each process, since threads do not survive a fork."""
    started = Barrier(threads + 1)
    pool = ThreadPoolExecutor(threads, "sparse", initializer=_one_core)
    for _ in range(threads):
        pool.submit(started.wait)
    started.wait()
    torch.set_num_threads(threads)  # which the workers have set for themselves and for threads to come
    return pool


def _one_core() -> None:
    """For this thread. PyTorch gives a thread the whole process's number at its first operation, or when it is asked
    for the number: without asking, the one set here would be overwritten then.
    """
    torch.get_num_threads()
    torch.set_num_threads(1)
