"""Run one node until it is told to stop: the same few lines for every executable."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import Any

import rclpy
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterImmutableException,
)
from rclpy.executors import ExternalShutdownException, InvalidHandle
from rclpy.signals import SignalHandlerOptions

from ov3d_perception.errors import Ov3dError
from ov3d_perception.priority import give_way
from ov3d_perception.ros import parameters
from ov3d_perception.ros.environment import shared_memory_fault, use_large_messages
from ov3d_perception.ros.executor import NodeExecutor

_THREADS = 4
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: What a wrong parameter at start surfaces as.
_REFUSED = (Ov3dError, InvalidParameterTypeException, InvalidParameterValueException, ParameterImmutableException)


def run(
    make_node: Callable[[], Any],
    arguments: list[str] | None = None,
    nice: int = 0,
    libraries: Collection[str] = (),
) -> None:
    """Make the node, spin it until SIGINT, SIGTERM or SIGHUP, close it and end the process.

    libraries: modules that take long to import and that the node needs at work only. They are imported when it is made,
    so that the middleware's threads meet the other nodes meanwhile; and before its first callback, since SciPy fails in
    one thread while another imports PyTorch.

    nice: how far the process gives way to others on a busy machine, 0 to 19 (:func:`priority.give_way`).

    The node has a ``close()`` besides what every node has: it ends the threads that the node started, and saves. The
    handlers are our own, so that nothing is cut off: the graph is alive until the node is closed, and signals that
    come meanwhile (a second Ctrl-C; a terminal's and a launcher's) change nothing.

    Exit status: 0 after a signal, 1 after an error in a callback (the node is closed before), 2 where the node could
    not be made: a parameter of the wrong type or value is one line, not a traceback, and so is a file of parameters
    that cannot be read, or a name that ROS does not allow.
    """
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in _SIGNALS:
        signal.signal(number, on_signal)
    give_way(nice)
    use_large_messages()
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # rclpy's RCLError
        print(f"The node does not start: {str(error).splitlines()[0]}", file=sys.stderr)
        _leave(2)
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
    for library in libraries:
        import_module(library)
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


def keep_loaded() -> None:
    """Let Python's garbage collector begin, with all there is now as what stays.

    Else a full collection visits every object of every library: 0.1 s in which no thread of the node runs Python.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


def _serve(executor: NodeExecutor, stop: threading.Event, failures: list[BaseException]) -> None:
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
