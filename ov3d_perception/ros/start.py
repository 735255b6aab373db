"""The executables of the nodes: they obey signals from the first moment, also while libraries load."""

from __future__ import annotations

import gc
import os
import signal
import sys
from importlib import import_module
from types import FrameType


def start(name: str) -> None:
    """Import the node's module and run it. Until :func:`run.run` takes over, a signal just ends the process.

    Python collects no garbage meanwhile (:func:`run.keep_loaded` begins): imports make little, and looking for it among
    all that they load takes a fifth of the time to start.
    """
    gc.disable()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    import_module(f"ov3d_perception.ros.{name}").main()


def lidar_node() -> None:
    """The executable ``lidar_node``."""
    start("lidar_node")


def map_node() -> None:
    """The executable ``map_node``."""
    start("map_node")


def cloud_filter_node() -> None:
    """The executable ``cloud_filter_node``."""
    start("cloud_filter_node")


def learn_node() -> None:
    """The executable ``learn_node``."""
    start("learn_node")


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(0)


if __name__ == "__main__":
    start(sys.argv.pop(1))
