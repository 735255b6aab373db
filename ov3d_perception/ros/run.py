"""Run one node until it is told to stop: the same few lines for every executable."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterImmutableException,
)
from rclpy.executors import ExternalShutdownException, InvalidHandle, MultiThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from ov3d_perception.errors import Ov3dError
from ov3d_perception.ros import parameters
from ov3d_perception.ros.environment import shared_memory_fault, use_large_messages

_THREADS = 4
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: What a wrong parameter at start surfaces as.
_REFUSED = (Ov3dError, InvalidParameterTypeException, InvalidParameterValueException, ParameterImmutableException)


def run(make_node: Callable[[], Any], arguments: list[str] | None = None, nice: int = 0) -> None:
    """Make the node, spin it until SIGINT, SIGTERM or SIGHUP, close it and end the process.

    nice: how far the process gives way to others on a busy machine, 0 to 19; see :func:`give_way`.

    The node has a ``close()`` besides what every node has: it ends the threads that the node started, and saves. The
    handlers are our own, so that nothing is cut off: the graph is alive until the node is closed, and signals that
    come meanwhile (a second Ctrl-C; a terminal's and a launcher's) change nothing.

    Exit status: 0 after a signal, 1 after an error in a callback (the node is closed before), 2 where the node could
    not be made: a parameter of the wrong type or value is one line, not a traceback.
    """
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in _SIGNALS:
        signal.signal(number, on_signal)
    give_way(nice)
    use_large_messages()
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = make_node()
    except _REFUSED as error:
        print(f"The node does not start: {error}", file=sys.stderr)
        _leave(2)
    for name, close in parameters.undeclared(node).items():
        meant = f"; did you mean {' or '.join(close)}?" if close else ""
        node.get_logger().warning(f"There is no parameter '{name}'{meant} It is ignored.")
    if fault := shared_memory_fault():
        node.get_logger().warning(f"{fault}.")
    executor = NodeExecutor(_THREADS)
    executor.add_node(node)
    failures: list[BaseException] = []
    keep_loaded()
    # The executor has a thread of its own, since only the main thread hears signals, and it must be free to.
    server = threading.Thread(target=_serve, args=(executor, stop, failures), name="executor", daemon=True)
    server.start()
    stop.wait()
    failure = failures[0] if failures else None
    node.close()  # the executor is still at work, so that closing can use the graph
    executor.shutdown(timeout_sec=5.0)
    server.join(5.0)
    rclpy.try_shutdown()
    if failure is not None:
        sys.excepthook(type(failure), failure, failure.__traceback__)
    _leave(0 if failure is None else 1)


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


def give_way(nice: int) -> None:
    """Raise this process's nice value.

    Where Linux shares the processor between sessions first (autogroup), the nice value counts inside a session only: a
    process that is a session of its own raises the session's value, too.
    """
    if nice <= 0:
        return
    os.nice(nice)
    if os.getsid(0) == os.getpid():
        with suppress(OSError):  # a kernel without autogroup
            Path("/proc/self/autogroup").write_text(str(nice))


def keep_loaded() -> None:
    """Tell Python's garbage collector that all there is now stays.

    Else a full collection visits every object of every library: 0.1 s in which no thread of the node runs Python.
    """
    gc.collect()
    gc.freeze()


def _serve(executor: MultiThreadedExecutor, stop: threading.Event, failures: list[BaseException]) -> None:
    """Serve callbacks until the executor is shut down; an exception that leaves one of them is kept, and stops it."""
    try:
        while not stop.is_set():
            with suppress(InvalidHandle):  # of a subscription that was replaced while the executor waited (rclpy 1284)
                executor.spin()
                break
    except ExternalShutdownException:
        pass
    except BaseException as error:
        failures.append(error)
    finally:
        stop.set()


def _leave(status: int) -> None:
    """Here and now: what is left of the middleware is not taken down by the interpreter's end, in whatever order."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
