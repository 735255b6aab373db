"""rclpy's executor with several threads, without its two faults: callbacks handed over twice, and an end that waits for
none of those at work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from rclpy.context import Context
from rclpy.executors import MultiThreadedExecutor


class NodeExecutor(MultiThreadedExecutor):
    """rclpy's executor with several threads, which waits for a callback to begin before it looks for the next one.

    rclpy up to Jazzy's 7.1.5 looks again at once, finds the callback that its threads have not begun, and hands it to
    them once more (ros2/rclpy pull request 1547): thousands of times a second, with the interpreter's lock.
    """

    def __init__(self, threads: int, context: Context | None = None) -> None:
        super().__init__(num_threads=threads, context=context)
        self._executor.shutdown()
        self._executor = self._pool = _Pool(threads, thread_name_prefix="callback")

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Begin no more callbacks and wait for those at work, as rclpy's own means to; False if they last longer."""
        super().shutdown(timeout_sec)
        return not wait(tuple(self._pool.at_work), timeout_sec).not_done


class _Pool(ThreadPoolExecutor):
    """at_work: calls that have not ended."""

    def __init__(self, threads: int, thread_name_prefix: str) -> None:
        super().__init__(threads, thread_name_prefix)
        self.at_work: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As ThreadPoolExecutor's, but returns when the call has begun."""
        begun = threading.Event()

        def call() -> Any:
            begun.set()
            return fn(*args, **kwargs)

        future = super().submit(call)
        self.at_work.add(future)
        future.add_done_callback(self.at_work.discard)
        begun.wait()
        return future
