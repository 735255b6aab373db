"""Record the topics that training needs, as they come over the wire, and always close the bag."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
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
from std_srvs.srv import Trigger

from ov3d_perception.bags.clouds import CLOUDS
from ov3d_perception.bags.series import BagSeries
from ov3d_perception.bags.teaching import Teaching
from ov3d_perception.bags.typestore import typestore
from ov3d_perception.errors import BagError
from ov3d_perception.ros.contexts import own_context
from ov3d_perception.ros.diagnostics import WARN, DiagnosticsPublisher, Health
from ov3d_perception.ros.messages import message_class

_CAMERA_INFO, _TF = "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage"
_IMAGES = ("sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image")
_TRAINING_TYPES = (*CLOUDS, _CAMERA_INFO, _TF, *_IMAGES, "nav_msgs/msg/Odometry", "sensor_msgs/msg/Imu")
_PATIENCE_S = 5.0
_NO_CLOUD = "Start the LiDAR driver with a PointCloud2 output, or name what to record: --topic NAME"
_DISCOVERY_S = 0.25
_DRAIN_S = 1.0
_STEADY = Clock(clock_type=ClockType.STEADY_TIME)  # use_sim_time must not stop these timers before /clock comes
_QUEUE_BYTES = 256 * 1024 * 1024
_ROOM_S = 2.0
_FULL_BYTES, _NEARLY_FULL_BYTES = 500_000_000, 5_000_000_000  # the queue and the index must find room
_ENOUGH = 20  # scans, before anything is said of them


@dataclass
class RecordReport:
    """What was recorded.

    dropped: messages lost because the disk was slower than the queue is long, by topic. left_out: topics of a type that
    training uses, or without a definition, that were not recorded, and why. clouds: recorded topics of clouds.
    chosen: topics were chosen by type, so a bag without clouds is a failure. teaching: how many scans have images.
    ended: why the recorder ended by itself, "" if it did not. bags: that are there, where the recording was cut.
    """

    path: Path
    chosen: bool = False
    written: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, str] = field(default_factory=dict)
    clouds: set[str] = field(default_factory=set)
    teaching: Teaching = field(default_factory=Teaching)
    ended: str = ""
    bags: tuple[Path, ...] = ()

    @property
    def useless(self) -> bool:
        """True if nothing was recorded, or no cloud although the topics were chosen for training."""
        return not self.written.total() or (self.chosen and not any(self.written[topic] for topic in self.clouds))

    def __str__(self) -> str:
        where = ", ".join(map(str, self.bags or (self.path,)))
        lines = [f"{where}: {sum(self.written.values())} messages"]
        lines += [f"  {topic}: {count}" for topic, count in sorted(self.written.items())]
        lines += [f"  {topic}: {count} DROPPED, the disk is too slow" for topic, count in sorted(self.dropped.items())]
        lines += [f"  {topic}: left out, {reason}" for topic, reason in sorted(self.left_out.items())]
        if self.teaching.scans:
            lines.append(f"{self.teaching}. All about the bag: ov3d doctor {(self.bags or (self.path,))[-1]}")
        if self.ended:
            lines.append(f"ENDED BY ITSELF: {self.ended}")
        if self.chosen and self.useless:
            lines.append(f"NO POINT CLOUD was recorded: this bag can teach nothing. {_NO_CLOUD}")
        return "\n".join(lines)


def record(
    out: str | Path,
    topics: Sequence[str] | None = None,
    seconds: float = 0.0,
    use_sim_time: bool = False,
    points: str = "",
    split: float = 0.0,
    keep: float = 0.0,
) -> int:
    """What ``ov3d bag record`` does, until Ctrl-C; prints a summary; returns 0, or 1 if it has no cloud."""
    report = record_bag(out, topics, seconds=seconds, use_sim_time=use_sim_time, points=points, split=split, keep=keep)
    print(report)
    return int(report.useless)


def record_bag(
    out: str | Path,
    topics: Sequence[str] | None = None,
    *,
    seconds: float = 0.0,
    use_sim_time: bool = False,
    points: str = "",
    split: float = 0.0,
    keep: float = 0.0,
    queue_bytes: int = _QUEUE_BYTES,
    stop: threading.Event | None = None,
) -> RecordReport:
    """Record until SIGINT, SIGTERM, SIGHUP, ``stop``, ``~/stop``, or for so many seconds; it always closes the bag.

    topics: names or shell patterns ("*" also matches "/"); None: by type, see :func:`why_left_out`. Topics that appear
    later are taken, too. points: of the topics chosen by type, the one cloud to take; "": all clouds.
    split, keep: seconds after which another bag begins, and of which the last are kept (:class:`BagSeries`); 0: never.
    use_sim_time: stamp arrivals with /clock, those before the first /clock with that one. queue_bytes: messages that
    wait for the disk; beyond it they are dropped and counted. Raises BagError if ``out`` exists.
    """
    report = RecordReport(Path(out), chosen=not topics)
    series = BagSeries(out, round(split * 1e9), round(keep * 1e9))
    with own_context(stop) as (context, stopped), series as bag, _Disk(bag, queue_bytes, report) as disk:
        node = rclpy.create_node(
            "bag_recorder",
            context=context,
            parameter_overrides=[Parameter("use_sim_time", value=use_sim_time)],
        )
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        recorder = _Recorder(node, topics or (), bag, disk, report, points)
        recorder.serve(stopped)
        end = node.create_timer(seconds, stopped.set, clock=_STEADY) if seconds > 0 else None
        room = node.create_timer(_ROOM_S, lambda: recorder.watch_room(stopped), clock=_STEADY)
        try:
            recorder.discover()
            while not stopped.is_set() and disk.error is None:
                executor.spin_once(timeout_sec=0.1)
            recorder.finish(executor)
        finally:
            room.cancel()
            if end is not None:
                end.cancel()
            executor.shutdown()
            node.destroy_node()
    if disk.error is not None:
        raise BagError(f"Writing {out} failed ({disk.error})", "Free space on the disk; what was written is kept")
    report.written, report.bags = Counter(bag.counts), bag.bags
    report.teaching.finish()
    return report


def why_left_out(topic: str, msgtype: str, published: Collection[str], points: str = "") -> str | None:
    """None for a topic that training needs, "" for one of another type, else the reason to leave it out.

    Taken are clouds, images, camera_info, TF, odometry and IMU by type, and all of /ground_truth. Left out are the
    outputs of our own nodes, depth images, raw images that are published compressed too, and where ``points`` names a
    topic, the other clouds.
    """
    if topic.startswith("/ground_truth/"):
        return None
    if msgtype not in _TRAINING_TYPES:
        return ""
    if "/output/" in topic:
        return "it is an output of our own nodes"
    if points and msgtype in CLOUDS and topic != f"/{points.lstrip('/')}":
        return f"points is {points}"
    if msgtype == _TF:
        return None if topic.endswith(("/tf", "/tf_static")) else ""
    if msgtype in _IMAGES and "depth" in topic.lower():
        return "depth images teach nothing"
    if msgtype == _IMAGES[1] and f"{topic}/compressed" in published:
        return f"{topic}/compressed is taken"
    return None


class _Disk:
    """A thread that writes a queue, bounded in bytes, so that a slow disk never holds up receiving."""

    def __init__(self, bag: BagSeries, limit: int, report: RecordReport) -> None:
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

    def __init__(
        self,
        node: Node,
        patterns: Sequence[str],
        bag: BagSeries,
        disk: _Disk,
        report: RecordReport,
        points: str = "",
    ) -> None:
        self._node = node
        self._points = points
        self._clouds_received = 0
        self._patterns = tuple(patterns)
        self._bag = bag
        self._disk = disk
        self._report = report
        self._seen: set[str] = set()
        self._received = 0
        self._early: list[tuple[str, str, bytes]] = []  # before the first /clock
        self._early_bytes = 0
        self._timer = node.create_timer(_DISCOVERY_S, self.discover, clock=_STEADY)
        self._patience = node.create_timer(_PATIENCE_S, self._warn_without_cloud, clock=_STEADY)
        self._health = Health(f"{node.get_name()}: recording", str(bag.path))
        self._diagnostics = DiagnosticsPublisher(node, self._health, self._refresh)

    def discover(self) -> None:
        """Subscribe to what is new and matches."""
        published = dict(self._node.get_topic_names_and_types())
        for topic, msgtypes in published.items():
            if topic in self._seen or not self._wanted(topic, msgtypes[0], published):
                continue
            publishers = self._node.get_publishers_info_by_topic(topic)
            if not publishers:
                continue
            self._seen.add(topic)
            self._subscribe(topic, msgtypes[0], [info.qos_profile for info in publishers])

    def _wanted(self, topic: str, msgtype: str, published: Collection[str]) -> bool:
        if self._patterns:
            return any(fnmatchcase(topic, pattern) for pattern in self._patterns)
        reason = why_left_out(topic, msgtype, published, self._points)
        if reason:
            self._leave_out(topic, reason)
        return reason is None

    def _leave_out(self, topic: str, reason: str) -> None:
        if topic not in self._report.left_out:
            self._report.left_out[topic] = reason
            self._node.get_logger().info(f"Not recording {topic}: {reason}")

    def watch_room(self, stopped: threading.Event) -> None:
        """Warn while the disk is nearly full, and end while the bag can still be closed."""
        free = shutil.disk_usage(self._bag.path.parent).free
        if free < _FULL_BYTES:
            self._report.ended = f"only {free / 1e6:.0f} MB were free on the disk of {self._bag.path}"
            stopped.set()
        elif free < _NEARLY_FULL_BYTES:
            self._health.set("disk", WARN, f"{free / 1e6:.0f} MB are free on the disk of {self._bag.path}")
        else:
            self._health.clear("disk")

    def serve(self, stopped: threading.Event) -> None:
        """``~/stop`` ends the recording, ``~/split`` begins another bag, ``~/status`` says what there is so far."""

        def stop() -> str:
            stopped.set()
            return f"{self._bag.path} is being closed"

        def status() -> str:
            free = shutil.disk_usage(self._bag.path.parent).free
            bags = ", ".join(map(str, self._bag.bags))
            counts = self._bag.counts
            topics = "".join(f"\n  {topic}: {counts[topic]}" for topic in sorted(counts))
            dropped = self._report.dropped.total()
            return (
                f"{bags}: {sum(counts.values())} messages, {dropped} dropped; {self._report.teaching}; "
                f"{free / 1e9:.1f} GB are free{topics}"
            )

        services = {
            "stop": stop,
            "split": lambda: f"{self._bag.split()} begins with the next message",
            "status": status,
        }
        for name, work in services.items():
            self._node.create_service(Trigger, f"~/{name}", _answer(work))

    def _refresh(self) -> None:
        """What /diagnostics says."""
        teaching = self._report.teaching
        self._health.value("scans", teaching.scans)
        self._health.value("scans that can teach", f"{teaching.paired} of {teaching.judged}")
        self._health.value("dropped", self._report.dropped.total())
        if teaching.judged > _ENOUGH and teaching.paired < teaching.judged / 2:
            self._health.set("teaching", WARN, f"{teaching}: look at the cameras and at the clocks")
        else:
            self._health.clear("teaching")

    def _warn_without_cloud(self) -> None:
        if not self._report.chosen or self._clouds_received:
            return
        if self._report.clouds:
            topics = ", ".join(sorted(self._report.clouds))
            self._node.get_logger().warning(f"No cloud has come on {topics} yet. Look at the driver and the sensor")
        else:
            self._node.get_logger().warning(f"No PointCloud2 is published yet. {_NO_CLOUD}")

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
            self._leave_out(topic, f"no definition of type {msgtype}")
            return
        if msgtype in CLOUDS:
            self._report.clouds.add(topic)
        profile = subscription_profile(offered)
        self._bag.add_topic(topic, msgtype, [_stored(profile)])
        self._node.create_subscription(kind, topic, self._callback(topic, msgtype), profile, raw=True)
        self._node.get_logger().info(f"Recording {topic} ({msgtype})")

    def _callback(self, topic: str, msgtype: str) -> Callable[[bytes], None]:
        clock = self._node.get_clock()

        def receive(data: bytes) -> None:
            self._received += 1
            self._clouds_received += msgtype in CLOUDS
            self._report.teaching.add(topic, msgtype, data)
            now = clock.now().nanoseconds
            if now == 0:  # use_sim_time, and no /clock yet: a bag with stamps of 0 spans decades
                self._hold(topic, msgtype, data)
                return
            if self._early:
                self.release(now)
            self._disk.put(topic, msgtype, data, now)

        return receive

    def _hold(self, topic: str, msgtype: str, data: bytes) -> None:
        if self._early_bytes + len(data) > _QUEUE_BYTES:
            self._report.dropped[topic] += 1
            return
        self._early.append((topic, msgtype, data))
        self._early_bytes += len(data)

    def release(self, now: int) -> None:
        """Write what came before the first /clock, as received ``now`` (ns)."""
        for message in self._early:
            self._disk.put(*message, now)
        self._early.clear()

    def finish(self, executor: SingleThreadedExecutor) -> None:
        """Take what is on its way; without any /clock, stamp by the system's clock and say so."""
        self.drain(executor)
        if self._early:
            self._node.get_logger().warning("No /clock came: use_sim_time is set, messages are stamped by the system")
            self.release(time.time_ns())


def _answer(work: Callable[[], str]) -> Callable[[Trigger.Request, Trigger.Response], Trigger.Response]:
    def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = True, work()
        return response

    return answer


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
