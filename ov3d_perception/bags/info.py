"""What a bag holds, as text: also of a damaged one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ov3d_perception.bags.cameras import Found, find_cameras
from ov3d_perception.bags.clouds import cloud_topics
from ov3d_perception.bags.reader import Bag, Topic, open_bag
from ov3d_perception.bags.salvage import salvage
from ov3d_perception.bags.sensors import sensor_notes
from ov3d_perception.bags.storage import storage_files
from ov3d_perception.errors import BagError, DamagedBagError, Ov3dError


@dataclass(frozen=True)
class BagInfo:
    """Summary of a bag. start, end: received stamps (ns); damage: what is wrong, "" if nothing is.
    notes: what is left out and why.

    cameras: which topics can teach, which cannot and why; sensors: what was decided about clouds, clocks and TF. Of a
    damaged bag these are not looked for.
    """

    path: Path
    size_bytes: int
    start: int
    end: int
    topics: tuple[Topic, ...]
    damage: str = ""
    cameras: Found = field(default_factory=Found)
    sensors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        duration = (self.end - self.start) * 1e-9
        count = sum(topic.count for topic in self.topics)
        lines = [f"{self.path}: {self.size_bytes / 1e6:.1f} MB, {duration:.2f} s, {count} messages"]
        width = max((len(topic.name) for topic in self.topics), default=0)
        for topic in self.topics:
            rate = f"{(topic.count - 1) / duration:7.1f} Hz" if topic.count > 1 and duration > 0 else " " * 10
            unknown = "" if topic.readable else "  (type unknown here)"
            lines.append(f"  {topic.name:<{width}}  {topic.count:7d} {rate}  {topic.msgtype}{unknown}")
        lines += self.sensors
        lines += str(self.cameras).splitlines()
        lines += [f"NOTE: {note}" for note in self.notes]
        if self.damage:
            lines.append(f"DAMAGED: {self.damage}")
        return "\n".join(lines)


def info(path: str | Path) -> BagInfo:
    """Summarise a bag. Of a damaged .mcap it counts what is readable, and names the damage.

    Raises BagError if there is no bag, or nothing in it can be read.
    """
    path = Path(path)
    try:
        with open_bag(path) as bag:
            cameras, sensors = _sensors_of(bag)
            topics, notes = tuple(bag.topics.values()), tuple(bag.notes)
            return BagInfo(path, _size(path), bag.start, bag.end, topics, "", cameras, sensors, notes)
    except DamagedBagError as error:
        return _info_of_damaged(path, error)


def _sensors_of(bag: Bag) -> tuple[Found, tuple[str, ...]]:
    try:
        clouds = cloud_topics(bag)
        tree = bag.transforms(clouds[0] if clouds else "/")
        cloud = next(iter(bag.messages(clouds)), None) if clouds else None
        cameras = find_cameras(bag, tree, lidar_frame=cloud.decode().header.frame_id if cloud else None)
        return cameras, tuple(sensor_notes(bag, tree, [camera.images for camera in cameras.cameras]))
    except Ov3dError as error:
        return Found(problems=[str(error)]), ()


def _info_of_damaged(path: Path, error: BagError) -> BagInfo:
    try:
        messages = [(m.topic, m.msgtype, m.log_time) for m in salvage(path)]
    except BagError:
        raise error from None
    counts = Counter((topic, msgtype) for topic, msgtype, _ in messages)
    topics = tuple(Topic(topic, msgtype, count) for (topic, msgtype), count in sorted(counts.items()))
    stamps = [stamp for _, _, stamp in messages] or [0]
    return BagInfo(path, _size(path), min(stamps), max(stamps), topics, str(error))


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in storage_files(path))
