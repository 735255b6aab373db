"""A recording in several bags, one after the other: cut when asked, cut by time, and only the last of them kept."""

from __future__ import annotations

import shutil
from collections import Counter, deque
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from threading import Lock

from rosbags.interfaces import Qos, QosDurability

from ov3d_perception.bags.writer import BagWriter
from ov3d_perception.errors import BagError

PARTS = 6
"""A recording of which the last part is kept is cut into so many pieces of what is kept."""
_TF_STATIC = "/tf_static"


class BagSeries:
    """Writes like a :class:`BagWriter`, but into ``path``, then ``path_2``, ``path_3`` and so on, where these are free.

    What is latched is written again at the start of each bag, with the stamp of its cut: every bag can be used alone.
    part_ns: a bag is closed when it is so long, by the messages' stamps; 0: only when asked (:meth:`split`).
    keep_ns: bags are removed, the oldest first, as long as those after it hold so much; 0: never. Bags of other
    recordings are never removed. A context manager, safe from several threads. Raises BagError if a bag exists already.
    """

    def __init__(self, path: str | Path, part_ns: int = 0, keep_ns: int = 0) -> None:
        self.path = Path(path)
        self._part = part_ns or keep_ns // PARTS
        self._keep = keep_ns
        self._topics: dict[str, tuple[str, Sequence[Qos]]] = {}
        self._latched: dict[str, list[bytes]] = {}
        self._lock = Lock()
        self._cut = False
        self._bag = BagWriter(self.path)
        self._first = self._last = 0
        self._former: deque[tuple[Path, int, Counter[str]]] = deque()  # with the stamp of each one's last message

    def add_topic(self, topic: str, msgtype: str, qos: Sequence[Qos] = ()) -> None:
        """As :meth:`BagWriter.add_topic`."""
        with self._lock:
            self._bag.add_topic(topic, msgtype, qos)
            self._topics[topic] = (msgtype, qos)

    def write_raw(self, topic: str, msgtype: str, data: bytes | memoryview, stamp: int) -> None:
        """As :meth:`BagWriter.write_raw`."""
        with self._lock:
            long_enough = bool(self._part and self._first and stamp - self._first >= self._part)
            if self._cut or long_enough:
                self._next(stamp)
            self._bag.write_raw(topic, msgtype, data, stamp)
            self._topics.setdefault(topic, (msgtype, ()))
            self._first, self._last = self._first or stamp, max(stamp, self._last)
            if self._is_latched(topic):
                self._latched.setdefault(topic, []).append(bytes(data))

    def split(self) -> Path:
        """The next message begins another bag; its path. A bag without a message goes on."""
        with self._lock:
            self._cut = self._first > 0
            return self._free() if self._cut else self._bag.path

    @property
    def bags(self) -> tuple[Path, ...]:
        """Those that are there, the oldest first; the last one is being written."""
        with self._lock:
            return (*(path for path, _, _ in self._former), self._bag.path)

    @property
    def counts(self) -> dict[str, int]:
        """Messages by topic, in all bags that are there."""
        with self._lock:
            return dict(sum((counts for _, _, counts in self._former), Counter(self._bag.counts)))

    def close(self) -> None:
        """Write the end of the last bag."""
        self._bag.close()

    def __enter__(self) -> BagSeries:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _free(self) -> Path:
        """Where the next bag goes."""
        numbered = (self.path.with_name(f"{self.path.name}_{number}") for number in count(self._number + 1))
        return next(path for path in numbered if not path.exists())

    @property
    def _number(self) -> int:
        """Of the bag that is being written."""
        return 1 if self._bag.path == self.path else int(self._bag.path.name.rpartition("_")[2])

    def _is_latched(self, topic: str) -> bool:
        offered = self._topics.get(topic, ("", ()))[1]
        durable = bool(offered) and all(one.durability == QosDurability.TRANSIENT_LOCAL for one in offered)
        return durable or topic == _TF_STATIC

    def _next(self, stamp: int) -> None:
        """Close this bag, begin the next, and remove what is too old."""
        following = BagWriter(self._free())
        self._bag.close()
        self._former.append((self._bag.path, self._last, Counter(self._bag.counts)))
        self._bag, self._cut, self._first = following, False, 0
        for topic, (msgtype, qos) in self._topics.items():
            self._bag.add_topic(topic, msgtype, qos)
        for topic, messages in self._latched.items():
            for data in messages:
                self._bag.write_raw(topic, self._topics[topic][0], data, stamp)
        while self._keep and self._former and stamp - self._former[0][1] >= self._keep:
            path = self._former.popleft()[0]
            try:
                shutil.rmtree(path)
            except OSError as error:
                raise BagError(f"{path} cannot be removed ({error})", "Look at its owner and at the disk") from error
