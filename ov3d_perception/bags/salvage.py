"""What a broken .mcap file still holds: its records in order, up to the damage (format: https://mcap.dev/spec)."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from rosbags.rosbag2.errors import ReaderError

from ov3d_perception.bags.mcap import (
    CHANNEL,
    CHUNK,
    DATA_END,
    MAGIC,
    MESSAGE,
    MESSAGE_HEAD,
    SCHEMA,
    Declarations,
    chunk_content,
)
from ov3d_perception.bags.storage import storage_files, unpacked
from ov3d_perception.bags.typestore import learn
from ov3d_perception.bags.writer import whole_bag
from ov3d_perception.errors import BagError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Salvaged:
    """A message read from a broken file. definition: text of the type; log_time: when it was received (ns)."""

    topic: str
    msgtype: str
    definition: str
    log_time: int
    data: bytes
    idl: bool = False


def salvage(path: str | Path) -> Iterator[Salvaged]:
    """Messages of a bag folder or .mcap file, in file order, until the first record that is cut off or makes no sense.

    Of a split bag, a file that does not begin as .mcap file (its recorder was killed) is left out, with a warning.
    Raises BagError if there is no .mcap file, or none begins as one.
    """
    files = storage_files(Path(path)) if Path(path).exists() else []
    files = [file for file in files if file.name.removesuffix(".zstd").endswith(".mcap")]
    if not files:
        raise BagError(f"{path} holds no .mcap file", "For .db3 files use `sqlite3 FILE .recover`")
    begun = 0
    for file in files:
        with ExitStack() as stack:
            stream = stack.enter_context(unpacked(file, stack, partial=True).open("rb"))
            if stream.read(len(MAGIC)) == MAGIC:
                begun += 1
                yield from _messages(stream, file)
            elif len(files) > 1:
                _log.warning("%s does not begin as an mcap file: nothing can be read from it", file)
    if not begun:
        raise BagError(f"{files[0]} does not begin as an mcap file", "Nothing can be read from it; copy it anew")


def repair(path: str | Path, out: str | Path) -> dict[str, int]:
    """Write what :func:`salvage` finds as a whole bag ``out``; returns messages kept, by topic."""
    left_out: set[str] = set()
    with whole_bag(out) as bag:
        for message in salvage(path):
            if message.topic in left_out:
                continue
            if not learn(message.msgtype, message.definition, idl=message.idl):
                _log.warning("Left out %s: no definition of type %s", message.topic, message.msgtype)
                left_out.add(message.topic)
                continue
            bag.write_raw(message.topic, message.msgtype, message.data, message.log_time)
        return bag.counts


def _messages(stream: BinaryIO, file: Path) -> Iterator[Salvaged]:
    declared = Declarations()
    told: set[str] = set()
    for kind, record in _records(stream, file):
        try:
            if kind in (SCHEMA, CHANNEL):
                declared.add(kind, record)
            elif kind == MESSAGE:
                number, _, log_time, _ = MESSAGE_HEAD.unpack_from(record)
                channel = declared.channels[number]
                if not channel.foreign:
                    idl = channel.definition_encoding.endswith("idl")
                    data = record[MESSAGE_HEAD.size :]
                    yield Salvaged(channel.topic, channel.msgtype, channel.definition, log_time, data, idl)
                elif channel.topic not in told:
                    told.add(channel.topic)
                    _log.warning(
                        "%s: %s is left out: its messages are %s, not CDR", file, channel.topic, channel.foreign
                    )
            elif kind == DATA_END:
                return
        except (struct.error, KeyError, UnicodeDecodeError) as error:
            _log.warning("%s: what follows a damaged record is lost (%r)", file, error)
            return


def _records(stream: BinaryIO, file: Path) -> Iterator[tuple[int, bytes]]:
    """(opcode, content) of each whole record, inside chunks too; of a cut-off chunk, what is whole."""
    while len(head := stream.read(9)) == 9:
        kind, size = struct.unpack("<BQ", head)
        record = stream.read(size)
        if kind == CHUNK:
            try:
                yield from _records(BytesIO(chunk_content(record, partial=True)), file)
            except ReaderError as error:
                _log.warning("%s: a chunk is lost: %s", file, error)
        elif len(record) == size:
            yield kind, record
        if len(record) < size:
            return
