"""What a bag holds, as text: also of a damaged one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ov3d_perception.bags.reader import Topic, open_bag, storage_files
from ov3d_perception.bags.salvage import salvage
from ov3d_perception.errors import BagError


@dataclass(frozen=True)
class BagInfo:
    """Summary of a bag. start, end: received stamps (ns); damage: what is wrong, "" if nothing is."""

    path: Path
    size_bytes: int
    start: int
    end: int
    topics: tuple[Topic, ...]
    damage: str = ""

    def __str__(self) -> str:
        duration = (self.end - self.start) * 1e-9
        count = sum(topic.count for topic in self.topics)
        lines = [f"{self.path}: {self.size_bytes / 1e6:.1f} MB, {duration:.2f} s, {count} messages"]
        width = max((len(topic.name) for topic in self.topics), default=0)
        for topic in self.topics:
            rate = f"{(topic.count - 1) / duration:7.1f} Hz" if topic.count > 1 and duration > 0 else " " * 10
            unknown = "" if topic.readable else "  (type unknown here)"
            lines.append(f"  {topic.name:<{width}}  {topic.count:7d} {rate}  {topic.msgtype}{unknown}")
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
            return BagInfo(path, _size(path), bag.start, bag.end, tuple(bag.topics.values()))
    except BagError as error:
        if not path.exists():
            raise
        return _info_of_damaged(path, error)


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
