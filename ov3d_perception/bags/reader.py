"""Read a rosbag2: a folder or one .mcap or .db3 file. Damage becomes a BagError that says how to go on."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, pairwise
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinitionFormat, Qos

from ov3d_perception.bags import livox
from ov3d_perception.bags.messages import add_to_tree, stamp_ns
from ov3d_perception.bags.read_once import read_once, state_of
from ov3d_perception.bags.storage import Part, open_parts, storage_files
from ov3d_perception.bags.typestore import learn, other_fields, typestore
from ov3d_perception.errors import BagError, DamagedBagError, TransformError
from ov3d_perception.geometry.transform_tree import GAP_REMEDY, PARENTS_REMEDY, TransformTree

_log = logging.getLogger(__name__)
_BACK_NS = 1_000_000_000  # transforms of several nodes arrive out of order by less
_LONGEST = 365 * 24 * 3600 * 1_000_000_000  # ns; longer bags have wrong receive stamps
T = TypeVar("T")
_Placed = tuple[TransformTree, dict[str, set[str]], tuple[str, ...]]


@dataclass(frozen=True)
class Topic:
    """One topic of a bag. qos: the profiles that its publishers offered, as far as recorded."""

    name: str
    msgtype: str
    count: int
    qos: tuple[Qos, ...] = ()

    @property
    def readable(self) -> bool:
        """True if messages of this type can be decoded here."""
        return self.msgtype in typestore().fielddefs


@dataclass(frozen=True)
class BagMessage:
    """One message as stored. stamp: when it was received (ns); data: CDR bytes; fault: why it is not decoded, or ""."""

    topic: str
    msgtype: str
    stamp: int
    data: bytes
    fault: str = ""

    def decode(self) -> Any:
        """The message as a rosbags dataclass, a Livox CustomMsg as a PointCloud2 (:mod:`bags.livox`).

        Raises BagError: type without definition, another version of the type, or bytes that do not fit it.
        """
        if self.fault:
            raise BagError(f"{self.topic}: {self.fault}", "Leave the topic out, or record it with today's messages")
        if self.msgtype not in typestore().fielddefs:
            raise BagError(
                f"No definition of type {self.msgtype} (topic {self.topic})",
                "Record the bag as mcap, which stores definitions, or leave the topic out",
            )
        with _damage_of(f"A message on {self.topic}", "Leave the message out, or record the bag anew"):
            if self.msgtype in livox.TYPES:
                return livox.livox_cloud(self.data)
            return typestore().deserialize_cdr(self.data, self.msgtype)


class Bag:
    """An open bag; a context manager. Made by :func:`open_bag`. start, end: first and last received stamp (ns).

    notes: what is left out and why, a line each.
    """

    def __init__(self, path: Path, parts: list[Part], stack: ExitStack, faults: dict[str, str]) -> None:
        self.path = path
        self._faults = faults
        self._parts = parts
        self._stack = stack
        self._remedy = _remedy(path)
        self._state = state_of(storage_files(path))
        self.topics = _merge_topics(connection for part in parts for connection in part.connections)
        self.notes = [note for part in parts for note in part.notes]
        self.notes += [f"not read, recorded with another version of its message: {fault}" for fault in faults.values()]
        spans = [part.span for part in parts if part.span is not None]
        self._overlapping = any(earlier[1] > later[0] for earlier, later in pairwise(spans))
        self.start = min((first for first, _ in spans), default=0)
        self.end = max((last for _, last in spans), default=0)
        if self.end - self.start > _LONGEST:
            years = (self.end - self.start) / _LONGEST
            self.notes.append(
                f"the receive stamps span {years:.0f} years, from {self.start} ns: recorded before /clock came?"
            )

    @property
    def duration_s(self) -> float:
        """Seconds from the first message to the last."""
        return (self.end - self.start) * 1e-9

    def messages(
        self, topics: Collection[str] | None = None, start: int | None = None, stop: int | None = None
    ) -> Iterator[BagMessage]:
        """Messages in order of their received stamps, start <= stamp < stop (ns); topics None means all.

        Raises BagError for a topic that the bag lacks, and where the file is damaged.
        """
        if missing := set(topics or ()) - set(self.topics):
            raise BagError(
                f"{self.path} has no topic {', '.join(sorted(missing))}", f"It has {', '.join(sorted(self.topics))}"
            )
        wanted = [[c for c in part.connections if topics is None or c.topic in topics] for part in self._parts]
        streams = [part.messages(own, start, stop) for part, own in zip(self._parts, wanted, strict=True) if own]
        with _damage_of(str(self.path), self._remedy):
            ordered = heapq.merge(*streams, key=itemgetter(1)) if self._overlapping else chain.from_iterable(streams)
            for connection, stamp, data in ordered:
                fault = self._faults.get(connection.msgtype, "")
                yield BagMessage(connection.topic, connection.msgtype, stamp, data, fault)

    def topics_of(self, *msgtypes: str) -> list[str]:
        """Names of the topics of one of these types, sorted."""
        return sorted(topic.name for topic in self.topics.values() if topic.msgtype in msgtypes)

    def transforms(self, of: str = "/") -> TransformTree:
        """Every transform of the bag's TF topics (those whose name ends in tf or tf_static).

        of: a topic of the robot that is meant. Where topics of several namespaces place one frame, these are several
        robots, and only the TF of the namespace nearest to ``of`` is taken. Raises TransformError if none is above it.
        """
        wanted = self.topics_of("tf2_msgs/msg/TFMessage")
        tree, placed, faults = self._tree(tuple(wanted))
        shared = next((frame for frame, spaces in placed.items() if len(spaces) > 1), None)
        if shared is not None:
            above = [space for space in placed[shared] if of.startswith(f"{space}/")]
            fault = f"TF of {', '.join(f'{space}/tf' for space in sorted(placed[shared]))} place frame '{shared}'"
            if not above:
                raise TransformError(f"{fault}, and {of} belongs to none", "Name the robot's cloud: points=")
            own = max(above, key=len)
            self.notes.append(f"{fault}: several robots? Only TF of {own}/ is taken for {of}")
            _log.warning("%s: %s", self.path, self.notes[-1])
            tree, _, more = self._tree(tuple(topic for topic in wanted if topic.rpartition("/")[0] == own))
            faults = tuple(dict.fromkeys((*faults, *more)))
        for fault in faults:
            self.notes.append(fault)
            _log.warning("%s: %s", self.path, fault)
        for fault in tree.skipped:
            _log.warning("%s: TF: %s", self.path, fault)
        for fault in tree.parent_faults:
            _log.warning("%s: TF: %s. %s", self.path, fault, PARENTS_REMEDY)
        for fault in tree.gaps:
            _log.warning("%s: TF: %s. %s", self.path, fault, GAP_REMEDY)
        return tree.copy()

    def fill(self, tree: TransformTree) -> None:
        """Add every transform of the bag's TF topics to a tree of another bag."""
        topics = self.topics_of("tf2_msgs/msg/TFMessage")
        add_to_tree(tree, ((edge, static) for edge, static, _ in self._edges(topics)))

    def once(self, what: Hashable, read: Callable[[], T]) -> T:
        """What ``read`` finds in the bag, or has found before in this process; shared, so nobody may change it."""
        return read_once(self._state, what, read)

    def _edges(self, topics: Collection[str]) -> Iterator[tuple[Any, bool, str]]:
        """Each transform (a TransformStamped), whether it is static, and its topic's namespace."""
        for message in self.messages(topics) if topics else ():
            static, space = message.topic.endswith("tf_static"), message.topic.rpartition("/")[0]
            for edge in message.decode().transforms:
                yield edge, static, space

    def _tree(self, topics: tuple[str, ...]) -> _Placed:
        return self.once(("transforms", topics), lambda: _placed(self._edges(topics)))

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    def __enter__(self) -> Bag:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _placed(edges: Iterable[tuple[Any, bool, str]]) -> _Placed:
    """The tree of these transforms; by child frame the namespaces that place it; what is wrong with their time."""
    placed: dict[str, set[str]] = {}
    newest: dict[str, int] = {}
    back: dict[str, int] = {}

    def watched() -> Iterator[tuple[Any, bool]]:
        for edge, static, space in edges:
            child, stamp = edge.child_frame_id.lstrip("/"), stamp_ns(edge)
            placed.setdefault(child, set()).add(space)
            if not static:
                newest[child] = max(newest.get(child, stamp), stamp)
                back[child] = max(back.get(child, 0), newest[child] - stamp)
            yield edge, static

    tree = TransformTree()
    add_to_tree(tree, watched())
    faults = tuple(
        f"the transforms of '{child}' run back by {step * 1e-9:.1f} s: was time set back (a simulation begun anew, "
        "a looped bag)? Poses of both passes are mixed: cut the bag there"
        for child, step in back.items()
        if step > _BACK_NS
    )
    return tree, placed, faults


def open_bag(path: str | Path) -> Bag:
    """Open a bag folder, or one storage file. A folder without metadata.yaml is read from its whole storage files.

    Raises BagError: nothing there, no bag, truncated or damaged.
    """
    path = Path(path)
    if not path.exists():
        raise BagError(f"There is no bag at {path}", "Check the path")
    with ExitStack() as stack:
        with _damage_of(str(path), _remedy(path)):
            parts = open_parts(path, stack)
            faults = _register_types(connection for part in parts for connection in part.connections)
        bag = Bag(path, parts, stack.pop_all(), faults)
    for note in bag.notes:
        _log.warning("%s", note)
    return bag


_REPAIR = "If the recorder was killed or a copy broke off, `ov3d bag repair` keeps what is before the damage"


def _remedy(path: Path) -> str:
    files = storage_files(path)
    if files and all(".db3" in file.suffixes for file in files):
        return "If the recorder was killed or a copy broke off, copy it anew, or use `sqlite3 FILE .recover`"
    return _REPAIR


@contextmanager
def _damage_of(what: str, remedy: str) -> Iterator[None]:
    """Damaged files surface from rosbags as many kinds of exception (struct, zstd, sqlite, index): make them one."""
    try:
        yield
    except BagError:
        raise
    except Exception as error:
        raise DamagedBagError(f"{what} cannot be read: {error or type(error).__name__}", remedy) from error


def _register_types(connections: Iterable[Connection]) -> dict[str, str]:
    """Learn the types that the bag defines. Returns by type where it defines one otherwise than it is known."""
    faults = {}
    for connection in connections:
        form, text = connection.msgdef
        if form is MessageDefinitionFormat.NONE:
            continue
        idl = form is MessageDefinitionFormat.IDL
        learn(connection.msgtype, text, idl)
        if fault := other_fields(connection.msgtype, text, idl):
            faults[connection.msgtype] = fault
    return faults


def _merge_topics(connections: Iterator[Connection]) -> dict[str, Topic]:
    topics: dict[str, Topic] = {}
    for connection in connections:
        known = topics.get(connection.topic)
        assert isinstance(connection.ext, ConnectionExtRosbag2)
        topics[connection.topic] = Topic(
            connection.topic,
            connection.msgtype,
            connection.msgcount + (known.count if known else 0),
            tuple(connection.ext.offered_qos_profiles),
        )
    return dict(sorted(topics.items()))
