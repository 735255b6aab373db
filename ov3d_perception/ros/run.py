"""Run one node until it is told to stop: the same few lines for every executable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import rclpy
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.node import Node

from ov3d_perception.ros.environment import use_large_messages

_THREADS = 3


class Closable(Protocol):
    """A node with threads of its own."""

    def close(self) -> None:
        """End them."""


def run(make_node: Callable[[], Node], arguments: list[str] | None = None) -> None:
    """Make the node and spin it until SIGINT or SIGTERM; then close it and shut down. Returns normally on both."""
    use_large_messages()
    rclpy.init(args=arguments)
    node: Node | None = None
    executor = MultiThreadedExecutor(num_threads=_THREADS)
    try:
        node = make_node()
        executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        if node is not None:
            if hasattr(node, "close"):
                node.close()
            executor.shutdown(timeout_sec=5.0)
            node.destroy_node()
        rclpy.try_shutdown()
