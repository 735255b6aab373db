"""A ROS context of one's own, and a clean way out on every signal."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import rclpy
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions

from ov3d_perception.ros.environment import use_large_messages

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def own_context(stop: threading.Event | None = None) -> Iterator[tuple[Context, threading.Event]]:
    """(context, event): the event is set by SIGINT, SIGTERM, SIGHUP, or by whoever holds ``stop``.

    rclpy installs no handlers, so a signal never cuts off work in progress: the caller watches the event. Handlers are
    installed in the main thread only (Python allows no other), and the former ones restored.
    """
    stopped = stop or threading.Event()
    in_main = threading.current_thread() is threading.main_thread()
    former = {number: signal.signal(number, lambda *_: stopped.set()) for number in _SIGNALS} if in_main else {}
    use_large_messages()
    context = Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    try:
        yield context, stopped
    finally:
        rclpy.try_shutdown(context=context)
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def private_session() -> Iterator[None]:
    """rclpy for a program that starts nodes of its own and talks to those alone.

    They meet in a random ROS domain, unless the user has chosen one: other robots on this network are none of ours.
    """
    os.environ.setdefault("ROS_DOMAIN_ID", str(random.randint(1, 100)))
    use_large_messages()
    rclpy.init()
    try:
        yield
    finally:
        rclpy.try_shutdown()
