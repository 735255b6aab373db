"""Record the topics that training needs, as they come over the wire, and always close the bag."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from ov3d_perception.bags.typestore import typestore
from ov3d_perception.bags.writer import BagWriter
from ov3d_perception.errors import BagError
from ov3d_perception.ros.process import own_context
from ov3d_perception.ros.tools.bag_player import message_class

#: Shell patterns of topic names; "*" also matches "/".
TRAINING_TOPICS = (
    "*/points",
    "*/image_raw/compressed",
    "*/camera_info",
    "/tf",
    "/tf_static",
    "*/odom",
    "/ground_truth/*",
)
_DISCOVERY_S = 0.25
_DRAIN_S = 1.0
_STEADY = Clock(clock_type=ClockType.STEADY_TIME)  # use_sim_time must not stop these timers before /clock comes
_QUEUE_BYTES = 256 * 1024 * 1024


@dataclass
class RecordReport:
    """What was recorded. dropped: messages lost because the disk was slower than the queue is long, by topic."""

    path: Path
    written: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        lines = [f"{self.path}: {sum(self.written.values())} messages"]
        lines += [f"  {topic}: {count}" for topic, count in sorted(self.written.items())]
        lines += [f"  {topic}: {count} DROPPED, the disk is too slow" for topic, count in sorted(self.dropped.items())]
        return "\n".join(lines)


def record(
    out: str | Path, topics: Sequence[str] | None = None, seconds: float = 0.0, use_sim_time: bool = False
) -> int:
    """What ``ov3d bag record`` does, until Ctrl-C; prints a summary, returns 0, or 1 if there was nothing to record."""
    report = record_bag(out, topics, seconds=seconds, use_sim_time=use_sim_time)
    print(report)
    return 0 if report.written else 1


def record_bag(
    out: str | Path,
    topics: Sequence[str] | None = None,
    *,
    seconds: float = 0.0,
    use_sim_time: bool = False,
    queue_bytes: int = _QUEUE_BYTES,
    stop: threading.Event | None = None,
) -> RecordReport:
    """Record until SIGINT, SIGTERM, SIGHUP, ``stop``, or for so many seconds; the bag is closed on every way out.

    topics: names or shell patterns (None: :data:`TRAINING_TOPICS`); topics that appear later are taken, too.
    use_sim_time: stamp arrivals with /clock. queue_bytes: messages that wait for the disk; beyond it they are dropped
    and counted. Raises BagError if ``out`` exists.
    """
    report = RecordReport(Path(out))
    with own_context(stop) as (context, stopped), BagWriter(out) as bag, _Disk(bag, queue_bytes, report) as disk:
        node = rclpy.create_node(
            "bag_recorder",
            context=context,
            parameter_overrides=[Parameter("use_sim_time", value=use_sim_time)],
        )
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        recorder = _Recorder(node, topics or TRAINING_TOPICS, bag, disk)
        end = node.create_timer(seconds, stopped.set, clock=_STEADY) if seconds > 0 else None
        try:
            recorder.discover()
            while not stopped.is_set() and disk.error is None:
                executor.spin_once(timeout_sec=0.1)
            recorder.drain(executor)
        finally:
            if end is not None:
                end.cancel()
            executor.shutdown()
            node.destroy_node()
    if disk.error is not None:
        raise BagError(f"Writing {out} failed ({disk.error})", "Free space on the disk; what was written is kept")
    report.written = Counter(bag.counts)
    return report


class _Disk:
    """A thread that writes a queue, bounded in bytes, so that a slow disk never holds up receiving."""

    def __init__(self, bag: BagWriter, limit: int, report: RecordReport) -> None:
        self._bag = bag
        self._limit = limit
        self._report = report
        self._queue: deque[tuple[str, str, bytes, int]] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="disk")
        self.error: Exception | None = None

    def put(self, topic: str, msgtype: str, data: bytes, stamp: int) -> None:
        """Queue a message, or count it as dropped."""
        with self._changed:
            if self._queue and self._bytes + len(data) > self._limit:
                self._report.dropped[topic] += 1
                return
            self._queue.append((topic, msgtype, data, stamp))
            self._bytes += len(data)
            self._changed.notify()

    def __enter__(self) -> _Disk:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closed)
                if not self._queue:
                    return
                topic, msgtype, data, stamp = self._queue.popleft()
                self._bytes -= len(data)
            try:
                self._bag.write_raw(topic, msgtype, data, stamp)
            except Exception as error:  # a full disk, most likely: stop, and keep what there is
                self.error = error
                return


class _Recorder:
    """Finds topics and subscribes to them, serialised, with a profile that their publishers can serve."""

    def __init__(self, node: Node, patterns: Sequence[str], bag: BagWriter, disk: _Disk) -> None:
        self._node = node
        self._patterns = tuple(patterns)
        self._bag = bag
        self._disk = disk
        self._seen: set[str] = set()
        self._received = 0
        self._timer = node.create_timer(_DISCOVERY_S, self.discover, clock=_STEADY)

    def discover(self) -> None:
        """Subscribe to what is new and matches."""
        for topic, msgtypes in self._node.get_topic_names_and_types():
            if topic in self._seen or not any(fnmatchcase(topic, pattern) for pattern in self._patterns):
                continue
            publishers = self._node.get_publishers_info_by_topic(topic)
            if not publishers:
                continue
            self._seen.add(topic)
            self._subscribe(topic, msgtypes[0], [info.qos_profile for info in publishers])

    def drain(self, executor: SingleThreadedExecutor) -> None:
        """Take what had arrived when the end was asked for, :data:`_DRAIN_S` at most."""
        end, idle = time.monotonic() + _DRAIN_S, 0
        while idle < 3 and time.monotonic() < end:  # a turn without a message may have been the timer's
            before = self._received
            executor.spin_once(timeout_sec=0.05)
            idle = 0 if self._received > before else idle + 1

    def _subscribe(self, topic: str, msgtype: str, offered: list[QoSProfile]) -> None:
        kind = message_class(msgtype)
        if kind is None or msgtype not in typestore().fielddefs:
            self._node.get_logger().warning(f"Not recording {topic}: no definition of type {msgtype}")
            return
        profile = subscription_profile(offered)
        self._bag.add_topic(topic, msgtype, [_stored(profile)])
        self._node.create_subscription(kind, topic, self._callback(topic, msgtype), profile, raw=True)
        self._node.get_logger().info(f"Recording {topic} ({msgtype})")

    def _callback(self, topic: str, msgtype: str) -> Callable[[bytes], None]:
        clock = self._node.get_clock()

        def receive(data: bytes) -> None:
            self._received += 1
            self._disk.put(topic, msgtype, data, clock.now().nanoseconds)

        return receive


def subscription_profile(offered: Sequence[QoSProfile]) -> QoSProfile:
    """The strictest profile that all these publishers can serve: reliable or latched only if every one of them is."""
    reliable = all(profile.reliability == ReliabilityPolicy.RELIABLE for profile in offered)
    latched = all(profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for profile in offered)
    return QoSProfile(
        depth=100,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def _stored(profile: QoSProfile) -> Qos:
    """As the bag's metadata keeps it."""
    latched = profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
    reliable = profile.reliability == ReliabilityPolicy.RELIABLE
    none = QosTime(0, 0)
    return Qos(
        QosHistory.KEEP_LAST,
        profile.depth,
        QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        none,
        none,
        QosLiveliness.SYSTEM_DEFAULT,
        none,
        False,
    )
