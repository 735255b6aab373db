"""Blocks spread over threads.

Each thread works through blocks of its own with all operations on its one core. That is faster than to let each
operation be shared by all cores: those wait for each other thousands of times in a network, and Python for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, TypeVar

import torch

from ov3d_perception.sparse.one_core_pool import one_core_pool

T = TypeVar("T")
R = TypeVar("R")


def spread(work: Callable[[Iterable[T]], None], items: list[T], device: torch.device) -> None:
    """Calls ``work`` once in each of as many threads as PyTorch uses, with an iterator over its items.

    Whoever is first takes the next item. On a GPU, for a single item or a single thread it is called here. Gradients
    are not recorded.
    """
    threads = min(torch.get_num_threads(), len(items))
    if threads < 2 or device.type != "cpu":
        work(items)
        return
    inference, shared = torch.is_inference_mode_enabled(), iter(items)

    def run() -> None:
        with torch.inference_mode() if inference else torch.no_grad():
            work(shared)

    pool = one_core_pool("sparse", torch.get_num_threads())
    for done in [pool.submit(run) for _ in range(threads)]:
        done.result()


def aside(work: Callable[..., R], *args: Any) -> Future[R]:
    """``work(*args)`` in a thread of its own, one such piece of work after the other, on one core."""

    def run() -> R:
        with torch.no_grad():
            return work(*args)

    return one_core_pool("sparse-aside", 1).submit(run)
