"""Write a standard rosbag2: mcap storage, metadata version 8 (Humble and later read it)."""

from __future__ import annotations

import shutil
import struct
from binascii import crc32
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import MappingProxyType, TracebackType
from typing import Any

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapWriter

from ov3d_perception.bags.typestore import typestore
from ov3d_perception.errors import BagError
from ov3d_perception.files import refused, replacing_folder

STORAGE = (".mcap", ".db3")
_UNSET = QosTime(0, 0)
LATCHED = Qos(
    QosHistory.KEEP_LAST,
    100,
    QosReliability.RELIABLE,
    QosDurability.TRANSIENT_LOCAL,
    _UNSET,
    _UNSET,
    QosLiveliness.SYSTEM_DEFAULT,
    _UNSET,
    False,
)


_CHECKSUM_AT = 9 + 24  # of a chunk record: behind its head, two stamps and the size


class _ChecksummedMcap(McapWriter):
    """With the chunks' checksums; rosbags leaves them 0, which means that there is none."""

    def close_chunk(self) -> None:
        start, checksum = self.bio.tell(), crc32(self.chunk.bio.getbuffer())
        super().close_chunk()
        self.bio.seek(start + _CHECKSUM_AT)
        self.bio.write(struct.pack("<I", checksum))
        self.bio.seek(0, 2)


class _Writer(Writer):
    STORAGE_PLUGINS = MappingProxyType({**Writer.STORAGE_PLUGINS, StoragePlugin.MCAP: _ChecksummedMcap})


class BagWriter:
    """A bag folder being written; a context manager, safe from several threads.

    Closing writes the index and metadata.yaml, also after an exception: what was written stays readable, as a recording
    should. What is made of other data is written by :func:`whole_bag`.
    path: folder to create. overwrite: replace an existing bag there (and nothing else).
    Raises BagError if the folder exists; writing and closing raise WriteError where the disk is full.
    """

    def __init__(self, path: str | Path, overwrite: bool = False) -> None:
        self.path = Path(path)
        _require_free(self.path, overwrite)
        if self.path.exists():
            shutil.rmtree(self.path)
        self._writer = _Writer(self.path, version=8, storage_plugin=StoragePlugin.MCAP)
        self._connections: dict[str, Connection] = {}
        self._lock = Lock()
        try:
            self._writer.open()
        except OSError as error:
            raise BagError(f"{self.path} cannot be created ({error})", "Choose a folder that you may write") from error

    def add_topic(self, topic: str, msgtype: str, qos: Sequence[Qos] = ()) -> None:
        """Announce a topic before its first message; topics of known types are announced by ``write`` itself.

        qos: offered profiles, stored for players; /tf_static is latched by itself.
        Raises BagError if the type is unknown (see :func:`typestore.learn`).
        """
        with self._lock:
            self._connect(topic, msgtype, qos)

    def write(self, topic: str, message: Any, stamp: int) -> None:
        """Write a rosbags message (see ``bags/messages.py``) received at ``stamp`` (ns)."""
        self.write_raw(topic, message.__msgtype__, typestore().serialize_cdr(message, message.__msgtype__), stamp)

    def write_raw(self, topic: str, msgtype: str, data: bytes | memoryview, stamp: int) -> None:
        """Write CDR bytes received at ``stamp`` (ns)."""
        with self._lock:
            connection = self._connections.get(topic) or self._connect(topic, msgtype, ())
            if connection.msgtype != msgtype:
                raise BagError(f"Topic {topic} has type {connection.msgtype}, not {msgtype}", "Use a second topic")
            try:
                self._writer.write(connection, stamp, data)
            except OSError as error:
                raise refused(self.path, error) from error

    @property
    def counts(self) -> dict[str, int]:
        """Messages written so far, by topic."""
        return {topic: self._writer.counts[connection.id] for topic, connection in self._connections.items()}

    def close(self) -> None:
        """Write index and metadata. Calling it again does nothing."""
        with self._lock:
            if self._writer.storage is not None:
                try:
                    self._writer.close()
                except OSError as error:
                    raise refused(self.path, error) from error

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connect(self, topic: str, msgtype: str, qos: Sequence[Qos]) -> Connection:
        if (known := self._connections.get(topic)) is not None:
            return known
        if msgtype not in typestore().fielddefs:
            raise BagError(
                f"No definition of type {msgtype} (topic {topic})",
                "Install the package that has it, or leave the topic out",
            )
        offered = list(qos) or ([LATCHED] if topic == "/tf_static" else [])
        connection = self._writer.add_connection(topic, msgtype, typestore=typestore(), offered_qos_profiles=offered)
        self._connections[topic] = connection
        return connection


@contextmanager
def whole_bag(path: str | Path, overwrite: bool = False) -> Iterator[BagWriter]:
    """A bag to write that appears at ``path`` when the block ends without an error, whole; else nothing does.

    overwrite: replace an existing bag there (and nothing else), which stays until then.
    Raises BagError if the folder exists, WriteError where it cannot be written.
    """
    path = Path(path)
    _require_free(path, overwrite)
    with replacing_folder(path) as folder, BagWriter(folder) as bag:
        bag.path = path  # as errors name it
        yield bag


def _require_free(path: Path, overwrite: bool) -> None:
    if path.exists() and not (overwrite and is_bag(path)):
        raise BagError(f"{path} exists already", "Choose another name, or remove it")


def is_bag(path: Path) -> bool:
    """True for a folder that holds a rosbag2: metadata.yaml or a storage file."""
    return path.is_dir() and any(entry.name == "metadata.yaml" or entry.suffix in STORAGE for entry in path.iterdir())
