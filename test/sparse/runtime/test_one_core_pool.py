"""Pools of one core a thread: made once, however many ask at once, and without a trace in the thread that asks."""

from concurrent.futures import ThreadPoolExecutor

import torch

from ov3d_perception.sparse.runtime.one_core_pool import one_core_pool


def test_a_pool_is_made_once_for_whoever_asks():
    with ThreadPoolExecutor(8) as askers:
        pools = set(askers.map(lambda _: one_core_pool("test-once", 3), range(32)))
    assert len(pools) == 1
    assert pools != {one_core_pool("test-other", 3)}


def test_its_threads_have_one_core_each_and_the_caller_keeps_its_own():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        pool = one_core_pool("test-cores", 2)
        assert [done.result() for done in [pool.submit(torch.get_num_threads) for _ in range(6)]] == [1] * 6
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
