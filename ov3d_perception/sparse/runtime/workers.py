"""Blocks of rows shared by threads.

Each thread works on blocks of its own, with all operations on one core. That is faster than to split each operation
over all cores: they would wait for each other thousands of times in a network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, TypeVar

import torch

from ov3d_perception.sparse.runtime.one_core_pool import one_core_pool

T = TypeVar("T")
R = TypeVar("R")


def run_on_threads(work: Callable[[Iterable[T]], None], items: list[T], device: torch.device) -> None:
    """Call ``work`` once in each of as many threads as PyTorch uses, with an iterator over the items that all share.

    On a GPU, for a single item or a single thread, it is called here. Gradients are not recorded.
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


def run_in_background(work: Callable[..., R], *args: Any) -> Future[R]:
    """Run ``work(*args)`` in one thread that does all such work in turn, on one core."""

    def run() -> R:
        with torch.no_grad():
            return work(*args)

    return one_core_pool("sparse-aside", 1).submit(run)
