"""What a node says of its own health on /diagnostics: stage times, counts, present trouble and the last error.

:class:`Health` collects from any thread; :class:`DiagnosticsPublisher` sends it once a second, whatever the lifecycle
state.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from ov3d_perception.errors import Ov3dError

OK, WARN, ERROR, STALE = (
    DiagnosticStatus.OK,
    DiagnosticStatus.WARN,
    DiagnosticStatus.ERROR,
    DiagnosticStatus.STALE,
)
_SEVERITY = {OK: 0, WARN: 1, STALE: 2, ERROR: 3}
_WINDOW = 50  # scans that the stage times are taken over


@dataclass(frozen=True)
class _Condition:
    level: bytes
    message: str


class Health:
    """Collects a node's counts, stage times and conditions. Thread-safe.

    A condition is a named trouble that lasts until it is cleared; the worst one is the status' level and message.
    The last error is kept for the reader even after its condition is cleared.
    """

    def __init__(self, name: str, hardware_id: str = "") -> None:
        self._name = name
        self._hardware_id = hardware_id
        self._lock = threading.Lock()
        self._conditions: dict[str, _Condition] = {}
        self._counts: Counter[str] = Counter()
        self._values: dict[str, str] = {}
        self._stages: dict[str, deque[float]] = {}
        self._last_error = "none"

    def set(self, condition: str, level: bytes, message: str) -> None:
        """The named trouble holds."""
        with self._lock:
            self._conditions[condition] = _Condition(level, message)

    def clear(self, condition: str) -> None:
        """The named trouble is over."""
        with self._lock:
            self._conditions.pop(condition, None)

    def fail(self, condition: str, error: Exception, level: bytes = ERROR) -> str:
        """The named trouble is this error, which is also kept as the last error; returns its text."""
        text = str(error) if isinstance(error, Ov3dError) else f"{type(error).__name__}: {error}"
        with self._lock:
            self._conditions[condition] = _Condition(level, text)
            self._last_error = text
        return text

    def count(self, name: str, by: int = 1) -> int:
        """Add to a counter; returns its new value."""
        with self._lock:
            self._counts[name] += by
            return self._counts[name]

    def value(self, name: str, value: object) -> None:
        """Show a value."""
        with self._lock:
            self._values[name] = str(value)

    def spent(self, stage: str, seconds: float) -> None:
        """One more duration of a stage."""
        with self._lock:
            self._stages.setdefault(stage, deque(maxlen=_WINDOW)).append(seconds * 1e3)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Measure the block as one run of a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.spent(stage, time.perf_counter() - start)

    def status(self) -> DiagnosticStatus:
        """A message of all this. Stage times are the median and the worst of the last 50 runs, in milliseconds."""
        with self._lock:
            worst = max(self._conditions.values(), key=lambda c: _SEVERITY[c.level], default=_Condition(OK, "OK"))
            values = {name: str(count) for name, count in self._counts.items()}
            values |= self._values
            values |= {f"{stage} [ms]": f"{median(runs):.2f}" for stage, runs in self._stages.items()}
            values |= {f"{stage} worst [ms]": f"{max(runs):.2f}" for stage, runs in self._stages.items()}
            values["last error"] = self._last_error
            return DiagnosticStatus(
                level=worst.level,
                name=self._name,
                message=worst.message,
                hardware_id=self._hardware_id,
                values=[KeyValue(key=key, value=value) for key, value in values.items()],
            )


class DiagnosticsPublisher:
    """Publishes a node's :class:`Health` on /diagnostics every ``period_s``, on a callback group of its own.

    ``refresh`` is called before each message, to bring values up to date. The period is wall time: a simulated clock
    that stands still is a reason to look at the diagnostics.
    """

    def __init__(self, node: Node, health: Health, refresh: Callable[[], None], period_s: float = 1.0) -> None:
        self._node = node
        self._health = health
        self._refresh = refresh
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        group, wall = MutuallyExclusiveCallbackGroup(), Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(period_s, self.publish, callback_group=group, clock=wall)

    def publish(self) -> None:
        """Send one message now."""
        self._refresh()
        message = DiagnosticArray(status=[self._health.status()])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)
