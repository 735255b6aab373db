"""Work shared by threads: all of it once, errors come out, and two crews do not wait for each other."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from ov3d_perception.mapping.crew import QUERIES, WRITER, Crew


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
