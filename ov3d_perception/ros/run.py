"""Run one node until it is told to stop: the same few lines for every executable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor

from ov3d_perception.ros.environment import use_large_messages

_THREADS = 4


def run(make_node: Callable[[], Any], arguments: list[str] | None = None) -> None:
    """Make the node and spin it until SIGINT or SIGTERM; then close it and shut down. Returns normally on both.

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
    finally:
        if node is not None:
            node.close()
            executor.shutdown(timeout_sec=5.0)
            node.destroy_node()
        rclpy.try_shutdown()
