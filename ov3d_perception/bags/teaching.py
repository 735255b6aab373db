"""While recording: how many scans have images near them, by the stamps alone. A scan without one teaches nothing."""

from __future__ import annotations

from bisect import bisect_left

from ov3d_perception.bags.cameras import IMAGES
from ov3d_perception.bags.clouds import CLOUDS
from ov3d_perception.bags.restamp import header_stamp

NEAR_NS = 100_000_000
_LATE_NS = 500_000_000  # images come this much later than the scan, at most
_KEPT = 100  # images of a camera that scans are paired with


class Teaching:
    """Fed with each message as it comes; a scan is judged half a second later, by stamps, or at the end."""

    def __init__(self) -> None:
        self.scans = 0
        self._images: dict[str, list[int]] = {}
        self._waiting: list[int] = []
        self._paired = 0
        self._newest = 0

    def add(self, topic: str, msgtype: str, data: bytes) -> None:
        """A message as it came over the wire; those of other types count for nothing."""
        if msgtype not in IMAGES and msgtype not in CLOUDS:
            return
        stamp = header_stamp(data)
        self._newest = max(self._newest, stamp)
        if msgtype in IMAGES:
            stamps = self._images.setdefault(topic, [])
            stamps.insert(bisect_left(stamps, stamp), stamp)
            del stamps[:-_KEPT]
        else:
            self.scans += 1
            self._waiting.append(stamp)
        self._judge()

    @property
    def paired(self) -> int:
        """Scans with an image of at least one camera within 0.1 s, among those that could be judged."""
        return self._paired

    @property
    def judged(self) -> int:
        """Scans that could be judged by now."""
        return self.scans - len(self._waiting)

    def finish(self) -> None:
        """No more images come: judge what waits."""
        self._judge(last=True)

    def __str__(self) -> str:
        cameras = len(self._images)
        return f"{self.paired} of {self.judged} scans have an image within 0.1 s and can teach ({cameras} image topics)"

    def _judge(self, last: bool = False) -> None:
        ripe = [stamp for stamp in self._waiting if last or stamp + _LATE_NS < self._newest]
        if ripe:
            gone = set(ripe)
            self._waiting = [stamp for stamp in self._waiting if stamp not in gone]
        for stamp in ripe:
            near = (self._nearest(stamps, stamp) for stamps in self._images.values())
            self._paired += any(abs(image - stamp) <= NEAR_NS for image in near)

    @staticmethod
    def _nearest(stamps: list[int], stamp: int) -> int:
        after = bisect_left(stamps, stamp)
        return min(stamps[max(after - 1, 0) : after + 1], key=lambda image: abs(image - stamp))
