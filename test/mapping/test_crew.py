"""Work shared by threads: all of it once, errors come out, and two crews do not wait for each other."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
import torch

from ov3d_perception.mapping.crew import QUERIES, WRITER, Crew, _helpers


@pytest.fixture(params=[1, 2, 3])
def _threads(request: pytest.FixtureRequest) -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize(("count", "size"), [(0, 4), (3, 4), (4, 4), (5, 4), (1001, 7)])
def test_every_part_is_worked_on_once(count: int, size: int) -> None:
    done, parts = np.zeros(count, int), []

    def work(part: slice) -> None:
        done[part] += 1
        parts.append(part.stop - part.start)

    Crew("test").share(count, size, work)
    assert (done == 1).all() and max(parts, default=0) <= size and sum(parts) == count


@pytest.mark.usefixtures("_threads")
def test_an_error_comes_out() -> None:
    def work(part: slice) -> None:
        if part.start == 6:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Crew("test").share(20, 2, work)


def test_the_caller_keeps_its_number_of_threads_and_members_have_one() -> None:
    before = torch.get_num_threads()
    assert WRITER.submit(torch.get_num_threads).result(10) == 1 and torch.get_num_threads() == before


def test_a_writer_with_the_lock_does_not_wait_for_queries_that_want_it() -> None:
    """All of the queries' threads wait for a lock that is given back only after the writer's crew has worked."""
    lock, done = threading.Lock(), []

    def locked(_: slice) -> None:
        with lock:
            done.append("query")

    with lock:
        asking = threading.Thread(target=QUERIES.share, args=(8, 1, locked))
        asking.start()
        waiting = [WRITER.submit(done.append, "writer") for _ in range(4)]
        for each in waiting:
            each.result(10)
        assert done == ["writer"] * 4
    asking.join(10)
    assert done[4:] == ["query"] * 8


@pytest.mark.usefixtures("_threads")
def test_work_within_a_crew_ends_though_all_of_its_threads_have_begun_more() -> None:
    """As many leaders as threads and more, each with work aside and shares within shares."""
    crew, done = Crew("nested"), np.zeros((6, 40), int)

    @crew.led
    def lead(row: int) -> str:
        beside = crew.aside(threading.current_thread)

        def inner(part: slice) -> None:
            done[row, part] += 1

        crew.share(4, 1, lambda part: crew.share(10, 3, lambda few: inner(_within(part, few))))
        return beside().name

    leaders = [threading.Thread(target=lead, args=(row,)) for row in range(6)]
    for each in leaders:
        each.start()
    for each in leaders:
        each.join(20)
    assert not any(each.is_alive() for each in leaders) and (done == 1).all()
    assert lead(0).startswith("nested")


def _within(part: slice, few: slice) -> slice:
    return slice(10 * part.start + few.start, 10 * part.start + few.stop)


def test_what_was_begun_aside_is_done_once() -> None:
    """By another thread, or, where none was free, by the one that asks for it."""
    crew, calls = Crew("once"), []
    helpers = max(torch.get_num_threads() - 1, 1)
    free, begun = threading.Event(), threading.Barrier(helpers + 1)

    def wait() -> bool:
        begun.wait(10)
        return free.wait(10)

    waiting = [crew.aside(wait) for _ in range(helpers)]
    begun.wait(10)
    crew.aside(lambda: calls.append(threading.current_thread().name))()
    free.set()
    assert calls == [threading.current_thread().name] and all(each() for each in waiting)
    crew.aside(lambda: calls.append("again"))()
    assert len(calls) == 2


def test_helpers_keep_off_the_core_of_who_asks_them_and_no_thread_to_come_is_slower() -> None:
    """Asked from a thread of the crew that stays on one core; only where the machine has another."""
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("one core")
    crew, before, inherited = Crew("placed"), torch.get_num_threads(), []

    @crew.led
    def asked() -> set[int]:
        os.sched_setaffinity(0, {min(cores)})
        begun = threading.Event()
        crew.aside(begun.set)
        assert begun.wait(10)
        crew.aside(lambda: None)()  # from now on, as the helper's number is known
        found = {number for each in _helpers[("placed", os.getpid())] for number in os.sched_getaffinity(each)}
        os.sched_setaffinity(0, cores)
        return found

    assert asked() == cores - {min(cores)}
    other = threading.Thread(target=lambda: inherited.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert inherited == [before] == [torch.get_num_threads()]
