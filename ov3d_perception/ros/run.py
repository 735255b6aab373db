"""Run one node until it is told to stop: the same few lines for every executable."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor

from ov3d_perception.ros.environment import use_large_messages

_THREADS = 4
#: Before the executor and the node go. A thread of the middleware (its signal handler's, by all signs) may still be at
#: the signal that ended the spinning: without the wait, 3 of 54 ends beside other load were segmentation faults in it.
_SETTLE_S = 0.3


def run(make_node: Callable[[], Any], arguments: list[str] | None = None) -> None:
    """Make the node and spin it until SIGINT or SIGTERM; then close it, shut down and end the process with status 0.

    The node has a ``close()`` besides what every node has: it ends the threads that the node started itself.
    """
    use_large_messages()
    rclpy.init(args=arguments)
    node = None
    executor = MultiThreadedExecutor(num_threads=_THREADS)
    try:
        node = make_node()
        executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        if rclpy.ok():  # else it was told to stop while it was being made: nothing can be made any more
            raise
    finally:
        if node is not None:
            node.close()
            time.sleep(_SETTLE_S)
            executor.shutdown(timeout_sec=5.0)
            node.destroy_node()
        rclpy.try_shutdown()
    _leave()


def _leave() -> None:
    """Here and now: what is left of the middleware is not taken down by the interpreter's end, in whatever order."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
