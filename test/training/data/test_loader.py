"""The next batch is made beside the step, and is the one that would have come anyway."""

from __future__ import annotations

import threading

import pytest
from torch.utils.data import Dataset

from ov3d_perception.training.data.loader import Loader


class Numbers(Dataset[int]):
    """Tells which items were made, and by which thread."""

    def __init__(self, broken: int = -1) -> None:
        self.made: list[int] = []
        self.threads: set[str] = set()
        self.fourth = threading.Event()
        self.broken = broken

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> int:
        if index == self.broken:
            raise KeyError(f"item {index}")
        self.made.append(index)
        self.threads.add(threading.current_thread().name)
        if index == 3:
            self.fourth.set()
        return index * index


def loader(items: Dataset[int], workers: int = 0) -> Loader:
    return Loader(items, batch_size=2, collate_fn=sum, num_workers=workers)  # type: ignore[arg-type]


def test_each_epoch_has_the_same_batches_as_without_a_thread() -> None:
    items = Numbers()
    batches = loader(items)
    assert [list(batches), list(batches)] == [[1, 13, 16]] * 2
    assert items.made == [0, 1, 2, 3, 4] * 2
    assert threading.current_thread().name not in items.threads


def test_one_batch_is_made_ahead_and_no_more() -> None:
    items = Numbers()
    coming = iter(loader(items))
    assert next(coming) == 1
    assert items.fourth.wait(10)  # of the batch that nobody has asked for
    assert items.made == [0, 1, 2, 3]
    coming.close()  # type: ignore[attr-defined]


def test_an_error_is_raised_where_its_batch_was_awaited() -> None:
    coming = iter(loader(Numbers(broken=3)))
    assert next(coming) == 1
    with pytest.raises(KeyError, match="item 3"):
        next(coming)


def test_worker_processes_still_make_batches() -> None:
    assert list(loader(Numbers(), workers=1)) == [1, 13, 16]
