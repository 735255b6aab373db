"""What a broken .mcap file still holds: its records in order, up to the damage (format: https://mcap.dev/spec)."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from rosbags.rosbag2.errors import ReaderError
from rosbags.rosbag2.storage_mcap import decompress

from ov3d_perception.bags.reader import storage_files
from ov3d_perception.bags.typestore import learn
from ov3d_perception.bags.writer import BagWriter
from ov3d_perception.errors import BagError

_log = logging.getLogger(__name__)
_MAGIC = b"\x89MCAP0\r\n"
_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 0x03, 0x04, 0x05, 0x06, 0x0F


@dataclass(frozen=True)
class Salvaged:
    """A message read from a broken file. definition: text of the type; log_time: when it was received (ns)."""

    topic: str
    msgtype: str
    definition: str
    log_time: int
    data: bytes


def salvage(path: str | Path) -> Iterator[Salvaged]:
    """Messages of a bag folder or .mcap file, in file order, until the first record that is cut off or makes no sense.

    Raises BagError if there is no .mcap file, or it does not begin as one.
    """
    files = [file for file in storage_files(Path(path)) if file.suffix == ".mcap"] if Path(path).exists() else []
    if not files:
        raise BagError(f"{path} holds no .mcap file", "For .db3 files use `sqlite3 FILE .recover`")
    for file in files:
        with file.open("rb") as stream:
            if stream.read(len(_MAGIC)) != _MAGIC:
                raise BagError(f"{file} does not begin as an mcap file", "Nothing can be read from it; copy it anew")
            yield from _messages(stream)


def repair(path: str | Path, out: str | Path) -> dict[str, int]:
    """Write what :func:`salvage` finds as a whole bag ``out``; returns messages kept, by topic."""
    with BagWriter(out) as bag:
        for message in salvage(path):
            if not learn(message.msgtype, message.definition):
                _log.warning("Left out %s: no definition of type %s", message.topic, message.msgtype)
                continue
            bag.write_raw(message.topic, message.msgtype, message.data, message.log_time)
        return bag.counts


def _messages(stream: BinaryIO) -> Iterator[Salvaged]:
    schemas: dict[int, tuple[str, str]] = {0: ("", "")}
    channels: dict[int, tuple[int, str]] = {}
    for kind, record in _records(stream):
        try:
            if kind == _SCHEMA:
                (number,) = struct.unpack_from("<H", record)
                name, at = _string(record, 2)
                _, at = _string(record, at)
                schemas[number] = name, _string(record, at)[0]
            elif kind == _CHANNEL:
                number, schema = struct.unpack_from("<HH", record)
                channels[number] = schema, _string(record, 4)[0]
            elif kind == _MESSAGE:
                number, _, log_time, _ = struct.unpack_from("<HIQQ", record)
                schema, topic = channels[number]
                yield Salvaged(topic, *schemas[schema], log_time, record[22:])
            elif kind == _DATA_END:
                return
        except (struct.error, KeyError, UnicodeDecodeError):
            return


def _records(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(opcode, content) of each whole record, inside chunks too; of a cut-off uncompressed chunk, what is whole."""
    while len(head := stream.read(9)) == 9:
        kind, size = struct.unpack("<BQ", head)
        record = stream.read(size)
        if kind == _CHUNK:
            yield from _records(BytesIO(_chunk_content(record)))
        elif len(record) == size:
            yield kind, record
        if len(record) < size:
            return


def _chunk_content(record: bytes) -> bytes:
    try:
        _, _, uncompressed_size, crc = struct.unpack_from("<QQQI", record)
        compression, at = _string(record, 28)
        (size,) = struct.unpack_from("<Q", record, at)
        content = record[at + 8 : at + 8 + size]
        return content if not compression else decompress(content, compression, uncompressed_size, crc)
    except (struct.error, UnicodeDecodeError, ReaderError, RuntimeError, ValueError, EOFError):
        return b""


def _string(record: bytes, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from("<I", record, at)
    end = at + 4 + size
    if end > len(record):
        raise struct.error("string beyond its record")
    return record[at + 4 : end].decode(), end
