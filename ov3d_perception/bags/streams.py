"""The stamps of a bag's topics, and whether two sensors share a clock."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Int64

from ov3d_perception.bags.messages import stamp_ns
from ov3d_perception.bags.reader import Bag, BagMessage
from ov3d_perception.bags.restamp import header_stamp
from ov3d_perception.errors import BagError, DatasetError
from ov3d_perception.geometry.upright import Gravity

TF, IMU = "tf2_msgs/msg/TFMessage", "sensor_msgs/msg/Imu"
_SECOND = 1_000_000_000
_APART_S = 2.0  # no sensor takes longer from its stamp to the recorder
_STEADY_S = 0.5  # a delay that varies more is no delay: the bag was not received but written
_KNOWN_OFFSETS = {37.0: "TAI, PTP's time, is 37 s ahead of UTC", 18.0: "GPS time is 18 s ahead of UTC"}


@dataclass(frozen=True)
class Stream:
    """Messages of one topic. stamps: of their headers, ascending; received: those that the bag keeps them under."""

    topic: str
    stamps: Int64[np.ndarray, " n"]
    received: Int64[np.ndarray, " n"]

    def nearest(self, stamp: int) -> int:
        """The number of the message whose stamp is nearest."""
        after = int(np.searchsorted(self.stamps, stamp))
        around = [i for i in (after - 1, after) if 0 <= i < len(self.stamps)]
        return min(around, key=lambda i: abs(int(self.stamps[i]) - stamp))

    @property
    def period_s(self) -> float | None:
        """The median time from one stamp to the next; None for a single one."""
        steps = np.diff(self.stamps)
        return float(np.median(steps[steps > 0])) / _SECOND if (steps > 0).any() else None


def read_stream(bag: Bag, topic: str, messages: int | None = None) -> Stream:
    """The stamps of a topic whose type begins with a header, without decoding its messages; or of the first few alone.

    Raises DatasetError for a topic without a message, BagError for a message that ends before its stamp.
    """

    def pairs() -> list[tuple[int, int]]:
        return sorted((_stamp_of(message), message.stamp) for message in islice(bag.messages([topic]), messages))

    return bag.once(("stream", topic, messages), lambda: _stream(bag, topic, pairs()))


def _stamp_of(message: BagMessage) -> int:
    try:
        return header_stamp(message.data)
    except BagError as error:
        raise BagError(f"{message.topic}: {error.cause}", error.remedy) from error


def read_gravity(bag: Bag, topic: str, messages: int | None = None) -> Gravity:
    """What the accelerometer of a sensor_msgs/Imu topic says of up; or its first few messages alone."""
    gravity = Gravity()
    for message in islice(bag.messages([topic]), messages):
        sample = message.decode()
        a = sample.linear_acceleration
        gravity.add(stamp_ns(sample), (a.x, a.y, a.z), sample.header.frame_id)
    return gravity


def read_tf_stream(bag: Bag, messages: int = 50) -> Stream | None:
    """The stamps of the bag's first moving transforms; None where there are none."""
    topics = [topic for topic in bag.topics_of(TF) if topic.endswith("tf")]
    pairs = [
        (stamp_ns(edge), message.stamp)
        for message in (islice(bag.messages(topics), messages) if topics else ())
        for edge in message.decode().transforms
    ]
    return _stream(bag, topics[0], sorted(pairs)) if pairs else None


def _stream(bag: Bag, topic: str, pairs: list[tuple[int, int]]) -> Stream:
    if not pairs:
        raise DatasetError(f"Topic {topic} of {bag.path} has no message", "Record the bag anew")
    stamps, received = np.array(pairs, np.int64).T
    return Stream(topic, stamps, received)


def clock_offset_s(stream: Stream, other: Stream) -> float | None:
    """By how many seconds the clock behind ``stream`` is ahead of that behind ``other``, delays included.

    Told by the moments at which the recorder got the messages; None where these are no such moments.
    """
    lags = [(s.stamps - s.received) / _SECOND for s in (stream, other)]
    if any(np.quantile(lag, 0.75) - np.quantile(lag, 0.25) > _STEADY_S for lag in lags):
        return None
    return float(np.median(lags[0]) - np.median(lags[1]))


def _length_s(*streams: Stream) -> float:
    return max(float(stream.stamps[-1] - stream.stamps[0]) for stream in streams) / _SECOND


def clock_fault(stream: Stream, other: Stream) -> str:
    """In which way the stamps of ``stream`` are of another clock than those of ``other``; "" where they are not."""
    stamps = stream.stamps
    if len(stamps) > 1 and stamps[0] == stamps[-1]:
        return f"its {len(stamps)} messages all have the stamp {int(stamps[0]) / _SECOND:.3f} s"
    offset = clock_offset_s(stream, other)
    if offset is None:  # no word from the recorder: the two must overlap
        gap = max(int(stamps[0] - other.stamps[-1]), int(other.stamps[0] - stamps[-1])) / _SECOND
        offset = float(int(stamps[0]) - int(other.stamps[0])) / _SECOND if gap > _APART_S else 0.0
    if abs(offset) <= _APART_S:
        return ""
    if abs(offset) > _length_s(stream, other) and stamps[0] <= other.stamps[-1] and other.stamps[0] <= stamps[-1]:
        return ""  # stamps of so different clocks cannot overlap: it was the recorder's clock that jumped
    side = "ahead of" if offset > 0 else "behind"
    known = next((f" ({text})" for value, text in _KNOWN_OFFSETS.items() if abs(abs(offset) - value) < 0.5), "")
    if stamps[0] < _SECOND * 10**8 < other.stamps[0] // 10:
        known = " (they count from power-on)"
    return f"its stamps are {abs(offset):.1f} s {side} those of {other.topic}{known}"


CLOCK_REMEDY = "Let all sensors share one clock (PTP, NTP, or stamps of the host)"
