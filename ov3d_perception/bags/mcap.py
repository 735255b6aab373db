"""Records of an .mcap file (https://mcap.dev/spec), and a reader for files whose index is missing or incomplete."""

from __future__ import annotations

import struct
import sys
from binascii import crc32
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from lz4.frame import LZ4FrameDecompressor
from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag2.errors import ReaderError
from rosbags.rosbag2.storage_mcap import get_qos

if sys.version_info >= (3, 14):
    from compression import zstd as zstd
else:
    from backports import zstd as zstd

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0F
MESSAGE_HEAD = struct.Struct("<HIQQ")
_FORMATS = {
    "ros2msg": MessageDefinitionFormat.MSG,
    "ros2idl": MessageDefinitionFormat.IDL,
    "omgidl": MessageDefinitionFormat.IDL,
    "": MessageDefinitionFormat.NONE,
}


@dataclass(frozen=True)
class Channel:
    """A topic of the file. encoding: of its messages ("cdr" in ROS 2); definition_encoding: of the type's text."""

    topic: str
    encoding: str
    metadata: bytes
    msgtype: str
    definition_encoding: str
    definition: str

    @property
    def foreign(self) -> str:
        """The encoding's name if the messages are not ROS 2's (protobuf, json, ros1), else ""."""
        if self.encoding != "cdr":
            return self.encoding or "unknown"
        return "" if self.definition_encoding in _FORMATS else self.definition_encoding

    @property
    def msgdef(self) -> MessageDefinition:
        """The definition as rosbags has it."""
        return MessageDefinition(_FORMATS[self.definition_encoding], self.definition)


@dataclass
class Declarations:
    """Schemas and channels met so far in a file."""

    schemas: dict[int, tuple[str, str, str]] = field(default_factory=lambda: {0: ("", "", "")})
    channels: dict[int, Channel] = field(default_factory=dict)

    def add(self, kind: int, record: bytes) -> None:
        """Take in a schema or channel record. Raises struct.error, KeyError or UnicodeDecodeError for a bad one."""
        if kind == SCHEMA:
            (number,) = struct.unpack_from("<H", record)
            name, at = string(record, 2)
            encoding, at = string(record, at)
            text = _sized(record, at)[0].decode(errors="replace")  # a foreign schema may be binary
            self.schemas[number] = name, encoding, text
        elif kind == CHANNEL:
            number, schema = struct.unpack_from("<HH", record)
            topic, at = string(record, 4)
            encoding, at = string(record, at)
            self.channels[number] = Channel(topic, encoding, _sized(record, at)[0], *self.schemas[schema])


def string(record: bytes, at: int) -> tuple[str, int]:
    """The text at this place, and the place behind it. Raises struct.error if it is longer than the record."""
    value, end = _sized(record, at)
    return value.decode(), end


def _sized(record: bytes, at: int) -> tuple[bytes, int]:
    (size,) = struct.unpack_from("<I", record, at)
    end = at + 4 + size
    if end > len(record):
        raise struct.error("field beyond its record")
    return record[at + 4 : end], end


def profile(path: Path) -> str | None:
    """The profile that the file's header names ("ros2", "ros1", ""); None if it does not begin as an mcap file."""
    with path.open("rb") as stream:
        head = stream.read(len(MAGIC) + 9)
        if len(head) < len(MAGIC) + 9 or not head.startswith(MAGIC) or head[len(MAGIC)] != HEADER:
            return None
        (size,) = struct.unpack_from("<Q", head, len(MAGIC) + 1)
        try:
            return string(stream.read(min(size, 1 << 16)), 0)[0]
        except (struct.error, UnicodeDecodeError):
            return None


def is_complete(path: Path) -> bool:
    """True if the file ends as a closed mcap file does."""
    with path.open("rb") as stream:
        stream.seek(-min(len(MAGIC), path.stat().st_size), 2)
        return stream.read() == MAGIC


def chunk_content(record: bytes, partial: bool = False) -> bytes:
    """The records inside a chunk record. partial: of a chunk that is cut off, what can be decompressed.

    Raises ReaderError for damage: cut off (unless partial), wrong checksum or size, unknown compression.
    """
    try:
        _, _, size, crc = struct.unpack_from("<QQQI", record)
        compression, at = string(record, 28)
        (stored,) = struct.unpack_from("<Q", record, at)
    except (struct.error, UnicodeDecodeError) as error:
        raise ReaderError(f"A chunk is damaged: {error}") from None
    data = record[at + 8 : at + 8 + stored]
    content = _decompress(data, compression)
    if partial and len(data) < stored:
        return content
    if len(data) < stored or len(content) != size or (crc and crc32(content) != crc):
        raise ReaderError("A chunk is damaged: its size or checksum is wrong")
    return content


def _decompress(data: bytes, compression: str) -> bytes:
    if not compression:
        return data
    decompressors: dict[str, Any] = {"zstd": zstd.ZstdDecompressor, "lz4": LZ4FrameDecompressor}
    if compression not in decompressors:
        raise ReaderError(f"Unsupported chunk compression {compression!r}")
    try:
        return bytes(decompressors[compression]().decompress(data))  # a stream: of a cut frame, its whole blocks
    except (zstd.ZstdError, RuntimeError, EOFError) as error:
        raise ReaderError(f"A chunk is damaged: {error}") from None


@dataclass(frozen=True)
class _Entry:
    """Where a message lies: in the file, or in the content of the chunk record at ``chunk``."""

    stamp: int
    channel: int
    at: int
    size: int
    chunk: tuple[int, int] | None


class ScannedMcap:
    """Reads a whole .mcap file by an index of its own, made by one pass over the records when opened.

    For files that rosbags does not read: without message indexes, unindexed and out of order, of another profile or
    with channels that are not ROS 2's. Messages come in order of their stamps. foreign: encoding by topic left out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections: list[Connection] = []
        self.foreign: dict[str, str] = {}
        self._entries: list[_Entry] = []
        self._stream: BinaryIO | None = None
        self._chunk: tuple[tuple[int, int] | None, bytes] = (None, b"")

    @property
    def span(self) -> tuple[int, int] | None:
        """First and last stamp of the messages that can be read (ns); None without messages."""
        return (self._entries[0].stamp, self._entries[-1].stamp) if self._entries else None

    def open(self) -> None:
        """Read every record once. Raises ReaderError for damage."""
        self._stream = self.path.open("rb")
        try:
            self._stream.seek(len(MAGIC))
            declared = Declarations()
            self._index(self._stream, self.path.stat().st_size, None, declared)
            unknown = {entry.channel for entry in self._entries} - set(declared.channels)
            if unknown:
                raise ReaderError(f"Messages of channels that are not declared: {sorted(unknown)}")
        except (struct.error, KeyError, UnicodeDecodeError) as error:
            self.close()
            raise ReaderError(f"A record is damaged: {error!r}") from None
        except BaseException:
            self.close()
            raise
        self.foreign = {c.topic: c.foreign for c in declared.channels.values() if c.foreign}
        own = {number: channel for number, channel in declared.channels.items() if not channel.foreign}
        counts = Counter(entry.channel for entry in self._entries)
        self._entries = sorted((e for e in self._entries if e.channel in own), key=lambda entry: entry.stamp)
        self.connections = [
            Connection(
                number,
                channel.topic,
                channel.msgtype,
                channel.msgdef,
                "",
                counts[number],
                ConnectionExtRosbag2("cdr", get_qos(channel.metadata)),
                self,
            )
            for number, channel in own.items()
        ]

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def messages(
        self, connections: Collection[Connection], start: int | None = None, stop: int | None = None
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Connection, stamp (ns) and bytes of each message, start <= stamp < stop, in order of the stamps."""
        wanted = {connection.id: connection for connection in connections}
        for entry in self._entries:
            if stop is not None and entry.stamp >= stop:
                return
            if entry.channel in wanted and (start is None or entry.stamp >= start):
                yield wanted[entry.channel], entry.stamp, self._bytes(entry)

    def _index(self, stream: BinaryIO, end: int, chunk: tuple[int, int] | None, declared: Declarations) -> None:
        while (at := stream.tell()) < end:
            kind, size = struct.unpack("<BQ", stream.read(9))
            if at + 9 + size > end:
                raise ReaderError(f"The record at byte {at} is cut off")
            if kind in (DATA_END, FOOTER) and chunk is None:
                return
            if kind in (SCHEMA, CHANNEL):
                declared.add(kind, stream.read(size))
            elif kind == MESSAGE:
                channel, _, stamp, _ = MESSAGE_HEAD.unpack(stream.read(MESSAGE_HEAD.size))
                place = at + 9 + MESSAGE_HEAD.size
                self._entries.append(_Entry(stamp, channel, place, size - MESSAGE_HEAD.size, chunk))
            elif kind == CHUNK and chunk is None:
                content = chunk_content(stream.read(size))
                self._index(BytesIO(content), len(content), (at + 9, size), declared)
            stream.seek(at + 9 + size)

    def _bytes(self, entry: _Entry) -> bytes:
        assert self._stream is not None
        if entry.chunk is None:
            self._stream.seek(entry.at)
            return self._stream.read(entry.size)
        if self._chunk[0] != entry.chunk:
            self._stream.seek(entry.chunk[0])
            self._chunk = entry.chunk, chunk_content(self._stream.read(entry.chunk[1]))
        return self._chunk[1][entry.at : entry.at + entry.size]
