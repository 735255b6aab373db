"""The queue that keeps the newest."""

from __future__ import annotations

import threading

import pytest

from ov3d_perception.ros.worker import NewestWorker

PATIENCE_S = 200.0


class Gate:
    """Work that waits for permission, and remembers what it was given."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.busy = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def __call__(self, item: int) -> None:
        self.busy.release()
        assert self.go.acquire(timeout=PATIENCE_S)
        self.done.append(item)


@pytest.mark.parametrize(("size", "kept"), [(1, [0, 9]), (3, [0, 7, 8, 9])])
def test_the_newest_are_kept_in_order_and_the_dropped_reported(size: int, kept: list[int]) -> None:
    gate = Gate()
    worker = NewestWorker(gate, size)
    worker.put(0)
    assert gate.busy.acquire(timeout=PATIENCE_S)  # 0 is at work, the queue is empty
    dropped = sum(worker.put(item) for item in range(1, 10))
    assert dropped == 9 - size
    for _ in range(size):
        gate.go.release()
        assert gate.busy.acquire(timeout=PATIENCE_S)
    gate.go.release()
    assert worker.close(PATIENCE_S)
    assert gate.done == kept


def test_close_lets_the_item_at_work_finish_and_drops_the_rest() -> None:
    gate = Gate()
    worker = NewestWorker(gate, 5)
    for item in range(3):
        worker.put(item)
    assert gate.busy.acquire(timeout=PATIENCE_S)
    closed: list[bool] = []
    closer = threading.Thread(target=lambda: closed.append(worker.close(PATIENCE_S)))
    closer.start()
    gate.go.release(5)
    closer.join(PATIENCE_S)
    assert closed == [True]
    assert gate.done[0] == 0 and len(gate.done) <= 3


def test_close_tells_when_the_work_does_not_end() -> None:
    gate = Gate()
    worker = NewestWorker(gate)
    worker.put(0)
    assert gate.busy.acquire(timeout=PATIENCE_S)
    assert not worker.close(0.01)
    gate.go.release()
    assert worker.close(PATIENCE_S)
