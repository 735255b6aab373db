"""Play a bag into ROS: at rate, with /clock, in a loop that keeps time going forward."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import QosDurability
from rosgraph_msgs.msg import Clock

from ov3d_perception.bags.reader import Bag, BagMessage, Topic, open_bag
from ov3d_perception.bags.restamp import shift_stamps
from ov3d_perception.errors import BagError
from ov3d_perception.ros.contexts import own_context
from ov3d_perception.ros.messages import message_class, ns_to_stamp

_INTERNAL = ("/clock", "/rosout", "/parameter_events")
_ACKNOWLEDGE_S = 5.0
LONGEST_GAP_S = 60.0


@dataclass(frozen=True)
class PlayOptions:
    """How to play.

    rate: 2.0 is twice as fast. loop: play again and again; stamps of each further pass are shifted so that they go on
    where the last pass ended. clock_hz: ticks of /clock a second (of wall time), 0 for none. topics: only these.
    remap: bag topic -> published topic. wait_for: published topics that must have a subscriber before the first
    message; wait_s: how long to wait for them before playing anyway. duration_s: stop after so much wall time.
    """

    rate: float = 1.0
    loop: bool = False
    clock_hz: float = 100.0
    topics: Sequence[str] | None = None
    remap: Mapping[str, str] = field(default_factory=dict)
    wait_for: Sequence[str] = ()
    wait_s: float = 10.0
    duration_s: float | None = None


@dataclass
class PlayReport:
    """What was played. published: messages by published topic; late_s: the most that one left after its time.

    skipped_s: bag time in gaps longer than :data:`LONGEST_GAP_S`, which are not waited for.
    """

    published: Counter[str] = field(default_factory=Counter)
    passes: int = 0
    late_s: float = 0.0
    skipped_s: float = 0.0


def play(
    path: str | Path,
    rate: float = 1.0,
    loop: bool = False,
    seconds: float = 0.0,
    topics: Sequence[str] | None = None,
    clock: bool = True,
    remap: Mapping[str, str] | None = None,
    wait_for: Sequence[str] = (),
) -> int:
    """What ``ov3d bag play`` does; ``seconds`` 0 means to the end. Prints a summary, returns the exit status 0."""
    print(f"Playing {path}; Ctrl-C ends", flush=True)
    options = PlayOptions(
        rate, loop, 100.0 if clock else 0.0, topics, remap or {}, wait_for, duration_s=seconds if seconds > 0 else None
    )
    report = play_bag(path, options)
    counts = ", ".join(f"{count} on {topic}" for topic, count in sorted(report.published.items()))
    print(f"Played {counts or 'nothing'}; {report.passes} whole passes; at most {report.late_s * 1e3:.0f} ms late")
    return 0


def play_bag(path: str | Path, options: PlayOptions | None = None, stop: threading.Event | None = None) -> PlayReport:
    """Play the bag until its end, ``stop``, or SIGINT/SIGTERM. Serialised messages are passed on as they are.

    Raises BagError: bag missing or damaged, a topic it lacks, none of its types installed, rate not positive.
    """
    options = options or PlayOptions()
    if not options.rate > 0:
        raise BagError(f"The rate is {options.rate}", "Give a positive factor, such as 1.0")
    with open_bag(path) as bag, own_context(stop) as (context, stopped):
        node = rclpy.create_node("bag_player", context=context)
        try:
            return _Player(node, bag, options, stopped).run()
        finally:
            node.destroy_node()


class _Player:
    """One run. Every message is due at an absolute wall time, so delays do not add up."""

    def __init__(self, node: Node, bag: Bag, options: PlayOptions, stop: threading.Event) -> None:
        self._node = node
        self._bag = bag
        self._options = options
        self._stop = stop
        self._topics = self._playable()
        self._publishers = {topic.name: self._publisher(topic) for topic in self._topics}
        self._latched = {topic.name for topic in self._topics if _is_latched(topic)}
        self._clock = node.create_publisher(Clock, "/clock", 10) if options.clock_hz > 0 else None
        self._next_tick = 0.0
        self._started = 0.0
        self._report = PlayReport()
        self._skipped = 0  # ns of bag time

    def run(self) -> PlayReport:
        self._wait_for_subscribers()
        self._started = time.monotonic()
        played_to = self._bag.start
        for message, shift in self._schedule():
            self._skip(played_to, message.stamp + shift)
            played_to = message.stamp + shift
            due = self._started + (played_to - self._skipped - self._bag.start) * 1e-9 / self._options.rate
            if not self._wait_until(due):
                break
            self._report.late_s = max(self._report.late_s, time.monotonic() - due)
            publisher = self._publishers[message.topic]
            publisher.publish(shift_stamps(message.data, message.msgtype, shift))
            self._report.published[publisher.topic] += 1
        if not self._stop.is_set():  # else subscribers are ending, too, and a launcher waits 5 s before it insists
            self._wait_until_taken()
        return self._report

    def _skip(self, before: int, after: int) -> None:
        """Do not wait for a long gap: receive stamps of 0 or of another clock lie years before the others."""
        gap_s = (after - before) * 1e-9
        if gap_s > LONGEST_GAP_S:
            self._skipped += after - before
            self._report.skipped_s += gap_s
            self._node.get_logger().warning(
                f"A gap of {gap_s:.0f} s in the receive stamps, {before} to {after} ns, is skipped; /clock jumps. "
                "Was the bag recorded with use_sim_time before /clock came?"
            )

    def _wait_until_taken(self) -> None:
        """What was sent last would be lost with its publisher: wait for reliable subscribers to have it."""
        deadline = time.monotonic() + _ACKNOWLEDGE_S
        for publisher in self._publishers.values():
            left = max(0.0, deadline - time.monotonic())
            publisher.wait_for_all_acked(Duration(seconds=left))

    def _playable(self) -> list[Topic]:
        wanted = self._options.topics
        if missing := set(wanted or ()) - set(self._bag.topics):
            raise BagError(
                f"{self._bag.path} has no topic {', '.join(sorted(missing))}", f"It has {', '.join(self._bag.topics)}"
            )
        playable = []
        for topic in self._bag.topics.values():
            if topic.name in _INTERNAL or (wanted is not None and topic.name not in wanted):
                continue
            if message_class(topic.msgtype) is None:
                self._node.get_logger().warning(f"Skipping {topic.name}: type {topic.msgtype} is not installed")
                continue
            playable.append(topic)
        if not playable:
            raise BagError(
                f"Nothing in {self._bag.path} can be played",
                "Install the packages of its types, or choose other topics",
            )
        return playable

    def _publisher(self, topic: Topic) -> Publisher:
        """Reliable, which suits reliable and best-effort subscribers; latched where it was recorded so."""
        durability = DurabilityPolicy.TRANSIENT_LOCAL if _is_latched(topic) else DurabilityPolicy.VOLATILE
        profile = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=durability)
        kind = message_class(topic.msgtype)
        assert kind is not None, "only playable topics get a publisher"
        return self._node.create_publisher(kind, self._options.remap.get(topic.name, topic.name), profile)

    def _wait_for_subscribers(self) -> None:
        """Until each awaited topic's publisher is matched: a subscriber that is only known of would miss the start."""
        deadline = time.monotonic() + self._options.wait_s
        for name in self._options.wait_for:
            while not self._heard(name):
                if time.monotonic() > deadline:
                    self._node.get_logger().warning(f"No subscriber on {name} after {self._options.wait_s} s; playing")
                    return
                if self._stop.wait(0.05):
                    return

    def _heard(self, topic: str) -> bool:
        name = self._node.resolve_topic_name(topic)
        mine = [publisher for publisher in self._publishers.values() if publisher.topic_name == name]
        return any(p.get_subscription_count() > 0 for p in mine) if mine else self._node.count_subscribers(name) > 0

    def _schedule(self) -> Iterator[tuple[BagMessage, int]]:
        """Messages and their shift in ns, pass after pass; latched ones in the first pass only."""
        names = [topic.name for topic in self._topics]
        period = loop_period(self._bag)
        while True:
            shift = self._report.passes * period
            for message in self._bag.messages(names):
                if shift == 0 or message.topic not in self._latched:
                    yield message, shift
            self._report.passes += 1
            if not self._options.loop or not set(names) - self._latched:
                return

    def _wait_until(self, due: float) -> bool:
        """Sleep until ``due`` (monotonic seconds), ticking /clock; False if it is time to stop."""
        end = None if self._options.duration_s is None else self._started + self._options.duration_s
        while True:
            now = time.monotonic()
            if self._stop.is_set() or (end is not None and now >= end):
                return False
            if self._clock is not None and now >= self._next_tick:
                bag_time = (
                    self._bag.start + self._skipped + int((min(now, due) - self._started) * self._options.rate * 1e9)
                )
                self._clock.publish(Clock(clock=ns_to_stamp(bag_time)))
                self._next_tick = now + 1.0 / self._options.clock_hz
            if now >= due:
                return True
            wake = due if self._clock is None else min(due, self._next_tick)
            self._stop.wait(max(0.0, (wake if end is None else min(wake, end)) - now))


def loop_period(bag: Bag) -> int:
    """Nanoseconds from one pass to the next: the bag's duration and one mean interval of its clouds.

    Without a cloud topic of two messages or more, the topic with the most messages counts; at least 1 ms.
    """
    clouds = bag.topics_of("sensor_msgs/msg/PointCloud2")
    counts = [bag.topics[name].count for name in clouds] or [topic.count for topic in bag.topics.values()]
    duration = bag.end - bag.start
    return duration + max(duration // max(1, max(counts) - 1), 1_000_000)


def _is_latched(topic: Topic) -> bool:
    recorded = any(profile.durability is QosDurability.TRANSIENT_LOCAL for profile in topic.qos)
    return recorded or topic.name.endswith("tf_static")
