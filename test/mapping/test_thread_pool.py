"""Work shared by threads: all of it once, errors come out, and two pools do not wait for each other."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ov3d_perception.mapping.thread_pool import QUERIES, WRITER, ThreadPool, _helpers, thread_count


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("OMP_NUM_THREADS", str(request.param))
    return request.param


@pytest.mark.parametrize(("given", "count"), [("5", 5), ("4,2", 4), ("", None), ("0", None), ("many", None)])
def test_the_environment_says_how_many_threads(monkeypatch: pytest.MonkeyPatch, given: str, count: int | None) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert thread_count() == (count or len(os.sched_getaffinity(0)))


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("count", "size"), [(0, 4), (3, 4), (4, 4), (5, 4), (1001, 7)])
def test_every_slice_is_worked_on_once(count: int, size: int) -> None:
    done, parts = np.zeros(count, int), []

    def work(part: slice) -> None:
        done[part] += 1
        parts.append(part.stop - part.start)

    ThreadPool("test").map_slices(count, size, work)
    assert (done == 1).all() and max(parts, default=0) <= size and sum(parts) == count


def test_slices_run_at_the_same_time_on_all_threads(threads: int) -> None:
    """Each slice waits until as many have begun as there are threads: a deadlock if they ran one after the other."""
    begun = threading.Barrier(threads)
    ThreadPool("parallel").map_slices(threads, 1, lambda _: begun.wait(60) and None)


@pytest.mark.usefixtures("threads")
def test_an_error_comes_out() -> None:
    def work(part: slice) -> None:
        if part.start == 6:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ThreadPool("test").map_slices(20, 2, work)


def test_helpers_are_made_once_for_all_threads_that_ask() -> None:
    with ThreadPoolExecutor(8) as askers:
        assert len(set(askers.map(lambda _: _helpers("once", 3), range(32)))) == 1


def test_a_writer_with_the_lock_does_not_wait_for_queries_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the queries' threads wait for a lock that is given back only after the writer's pool has worked."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    lock, done = threading.Lock(), []

    def locked(_: slice) -> None:
        with lock:
            done.append("query")

    with lock:
        asking = threading.Thread(target=QUERIES.map_slices, args=(8, 1, locked))
        asking.start()
        WRITER.map_slices(4, 1, lambda _: done.append("writer"))
        assert done == ["writer"] * 4
    asking.join()
    assert done[4:] == ["query"] * 8


@pytest.mark.usefixtures("threads")
def test_nested_work_of_more_callers_than_threads_ends() -> None:
    """Each caller starts work, and shares slices within slices."""
    pool, done = ThreadPool("nested"), np.zeros((6, 40), int)

    def call(row: int) -> None:
        finish = pool.start(threading.current_thread)

        def inner(part: slice) -> None:
            done[row, part] += 1

        pool.map_slices(4, 1, lambda part: pool.map_slices(10, 3, lambda few: inner(_within(part, few))))
        finish()

    callers = [threading.Thread(target=call, args=(row,)) for row in range(6)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    assert (done == 1).all()


def _within(part: slice, few: slice) -> slice:
    return slice(10 * part.start + few.start, 10 * part.start + few.stop)


def test_started_work_is_done_once() -> None:
    """By a helper, or, where none is free, by the thread that asks for the result."""
    pool, calls = ThreadPool("busy"), []
    helpers = max(thread_count() - 1, 1)
    free, begun = threading.Event(), threading.Barrier(helpers + 1)

    def wait() -> bool:
        begun.wait()
        return free.wait()

    waiting = [pool.start(wait) for _ in range(helpers)]
    begun.wait()
    pool.start(lambda: calls.append(threading.current_thread().name))()
    free.set()
    assert calls == [threading.current_thread().name] and all(finish() for finish in waiting)
    pool.start(lambda: calls.append("again"))()
    assert len(calls) == 2
