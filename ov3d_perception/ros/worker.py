"""A thread that works on the newest items and drops older ones."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class NewestWorker(Generic[Item]):
    """Calls ``work(item)`` in its own thread for the items of a bounded queue that keeps the newest.

    When items come faster than they are worked on, the oldest waiting item is dropped (``put`` tells). The others are
    worked on in their order. ``work`` must not raise.
    """

    def __init__(self, work: Callable[[Item], None], size: int = 1, name: str = "worker") -> None:
        self._work = work
        self._waiting: deque[Item] = deque(maxlen=size)
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> bool:
        """Add an item; True if an older one was dropped for it."""
        with self._changed:
            full = len(self._waiting) == self._waiting.maxlen
            self._waiting.append(item)
            self._changed.notify()
            return full

    def close(self, timeout_s: float = 10.0) -> bool:
        """Drop the waiting items, let the current one finish, end the thread; False if it has not ended in time."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                item = self._waiting.popleft()
            self._work(item)
