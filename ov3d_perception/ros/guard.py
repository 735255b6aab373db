"""Callbacks that cannot end their node: one guard around all services, timers and subscriptions.

An exception that leaves a callback ends rclpy's executor, and with it the process and what it has not saved.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any

from ov3d_perception.errors import Ov3dError
from ov3d_perception.ros.diagnostics import Health


class GuardedCallbacks:
    """A mixin before ``Node`` or ``LifecycleNode``: guards all callbacks that the node is given.

    A callback that raises is counted as "failures" on /diagnostics, where its error stands until the callback succeeds
    again, and logged as an error: once with the traceback, then at most every 10 s in one line. A service answers: with
    ``success`` false, or BAD_REQUEST where its response has a ``status``, and the error as ``message``.

    _health: of the node; assigned before the first callback can be called.
    """

    _health: Health
    _traced: set[tuple[str, str]]

    def create_service(self, srv_type: Any, srv_name: str, callback: Callable[..., Any], **options: Any) -> Any:
        """As of ``Node``, guarded."""
        guarded = self._guarded(srv_name, callback, _refusal)
        return super().create_service(srv_type, srv_name, guarded, **options)  # type: ignore[misc]

    def create_timer(self, timer_period_sec: float, callback: Callable[..., Any], *others: Any, **options: Any) -> Any:
        """As of ``Node``, guarded."""
        guarded = self._guarded(callback.__qualname__, callback)
        return super().create_timer(timer_period_sec, guarded, *others, **options)  # type: ignore[misc]

    def create_subscription(
        self, msg_type: Any, topic: str, callback: Callable[..., Any], qos_profile: Any, **options: Any
    ) -> Any:
        """As of ``Node``, guarded."""
        guarded = self._guarded(topic, callback)
        return super().create_subscription(msg_type, topic, guarded, qos_profile, **options)  # type: ignore[misc]

    def _guarded(
        self, name: str, callback: Callable[..., Any], refuse: Callable[[Any, str], Any] | None = None
    ) -> Callable[..., Any]:
        """The callback, which never raises; ``refuse`` makes a service's response of the error's text."""

        @wraps(callback)
        def guarded(*arguments: Any) -> Any:
            try:
                result = callback(*arguments)
            except Exception as error:
                text = self._note(name, error)
                return refuse(arguments[-1], text) if refuse is not None else None
            health = getattr(self, "_health", None)
            if health is not None:
                health.clear(name)
            return result

        return guarded

    def _note(self, name: str, error: Exception) -> str:
        node: Any = self
        if not node.context.ok():  # the process ends: publishing had to fail
            return str(error)
        self._health.count("failures")
        text = self._health.fail(name, error)
        seen = self.__dict__.setdefault("_traced", set())
        key = name, type(error).__name__
        if isinstance(error, Ov3dError) or key in seen:
            node.get_logger().error(f"{name} failed. {text}", throttle_duration_sec=10.0)
        else:
            seen.add(key)
            node.get_logger().error(f"{name} failed. {text}\n{''.join(traceback.format_exception(error))}")
        return text


def _refusal(response: Any, text: str) -> Any:
    if hasattr(response, "success"):
        response.success = False
    elif hasattr(response, "BAD_REQUEST"):
        response.status = response.BAD_REQUEST
    if hasattr(response, "message"):
        response.message = text
    return response
