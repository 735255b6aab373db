"""The storage files of a bag, opened: found with or without metadata.yaml, unpacked, a database's log read.

metadata.yaml is believed about the order of the files and message compression only. Topics, types, counts and QoS come
from the files themselves: hand-edited, old and emptied metadata are common.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import apsw
from rosbags.interfaces import Connection
from rosbags.rosbag2.errors import ReaderError
from rosbags.rosbag2.storage_mcap import McapReader
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ov3d_perception.bags.mcap import ScannedMcap, is_complete, profile, zstd
from ov3d_perception.bags.writer import STORAGE
from ov3d_perception.errors import BagError

_log = logging.getLogger(__name__)
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ROS1 = "Convert it: `pip install rosbags`, then `rosbags-convert --src {} --dst NEW_FOLDER`"


class Part:
    """One open storage file. messages_compressed: each message is a zstd frame. notes: what a person should know."""

    def __init__(self, reader: McapReader | Sqlite3Reader | ScannedMcap, messages_compressed: bool, name: str) -> None:
        self._reader = reader
        self._compressed = messages_compressed
        formats = {c.topic: str(getattr(c.ext, "serialization_format", "")) for c in reader.connections}
        self.connections = [c for c in reader.connections if formats[c.topic] == "cdr"]
        self.foreign = {topic: kind for topic, kind in formats.items() if kind != "cdr"}
        if isinstance(reader, ScannedMcap):
            self.foreign |= reader.foreign
        self.notes = [
            f"{name}: {topic} is left out: its messages are {kind}, not CDR" for topic, kind in self.foreign.items()
        ]
        if isinstance(reader, ScannedMcap):
            self.span = reader.span
        else:
            found = reader.metadata
            self.span = (found.start_time, found.end_time - 1) if found.message_count else None

    def messages(
        self, connections: Collection[Connection], start: int | None, stop: int | None
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Connection, stamp (ns) and CDR bytes, in order of the stamps."""
        if not self._compressed:
            return iter(self._reader.messages(connections, start, stop))
        return ((c, stamp, zstd.decompress(data)) for c, stamp, data in self._reader.messages(connections, start, stop))


def open_parts(path: Path, stack: ExitStack) -> list[Part]:
    """Open the storage files of a bag folder, or one file; the stack closes them.

    Raises BagError for what is no ROS 2 bag or lacks a file; for damage, what rosbags, sqlite or zstd raise.
    """
    metadata = _metadata(path)
    files = _files(path, metadata)
    told = str((metadata or {}).get("compression_mode", "")).lower() == "message"
    parts = [_open(file, told, metadata is None, stack) for file in files]
    if any(part.foreign for part in parts) and not any(part.connections for part in parts):
        kinds = ", ".join(sorted({kind for part in parts for kind in part.foreign.values()}))
        raise BagError(f"{path} is no ROS 2 bag: its messages are {kinds}, not CDR", "Convert it to a ROS 2 bag")
    return parts


def storage_files(path: Path) -> list[Path]:
    """The storage files of a bag folder in order of recording, or the file itself; of FILE and FILE.zstd, FILE."""
    if path.is_file():
        return [path]
    files = [entry for entry in path.iterdir() if entry.is_file() and _suffix(entry) in STORAGE]
    whole = {file.name for file in files}
    files = [file for file in files if file.suffix != ".zstd" or file.stem not in whole]
    return sorted(files, key=lambda file: (len(file.name.removesuffix(".zstd")), file.name))  # bag_2 before bag_10


def unpacked(file: Path, stack: ExitStack, partial: bool = False) -> Path:
    """The file, or for FILE.zstd a temporary copy without the compression. partial: as much as can be decompressed."""
    if file.suffix != ".zstd":
        return file
    copy = _temporary(stack) / file.stem
    _log.info("%s is decompressed to %s (set TMPDIR to choose another disk)", file, copy)
    decompressor = zstd.ZstdDecompressor()
    with file.open("rb") as source, copy.open("wb") as target:
        try:
            while not decompressor.eof and (block := source.read(1 << 20)):
                target.write(decompressor.decompress(block))
        except zstd.ZstdError:
            if not partial:
                raise
    if not decompressor.eof and not partial:
        raise ReaderError(f"{file.name} is cut off")
    return copy


def _suffix(file: Path) -> str:
    return Path(file.name.removesuffix(".zstd")).suffix


def _temporary(stack: ExitStack) -> Path:
    return Path(stack.enter_context(TemporaryDirectory(prefix="ov3d_bag_")))


def _metadata(path: Path) -> dict[str, Any] | None:
    """What metadata.yaml says; None with a warning if it is missing, empty or no metadata."""
    if path.is_file():
        return None
    file = path / "metadata.yaml"
    try:
        found = YAML(typ="safe").load(file.read_text())["rosbag2_bagfile_information"]
        if isinstance(found, dict) and isinstance(found.get("relative_file_paths"), list):
            return found
        fault = "is empty or damaged"
    except FileNotFoundError:
        fault = "is missing (was its recorder killed?)"
    except (YAMLError, UnicodeDecodeError, TypeError, KeyError):
        fault = "is empty or damaged"
    if files := storage_files(path):
        _log.warning("%s: metadata.yaml %s; reading %s", path, fault, [entry.name for entry in files])
    return None


def _files(path: Path, metadata: dict[str, Any] | None) -> list[Path]:
    found = storage_files(path)
    if path.is_file() and _suffix(path) not in STORAGE:
        if path.suffix == ".bag":
            raise BagError(f"{path} is a ROS 1 bag", _ROS1.format(path))
        raise BagError(f"{path} is not a storage file of rosbag2", f"Give a bag folder or a {' or '.join(STORAGE)}")
    if not found:
        if old := sorted(path.glob("*.bag")):
            raise BagError(f"{path} holds ROS 1 bags ({old[0].name})", _ROS1.format(old[0]))
        if metadata is None:
            raise BagError(f"{path} holds no bag: no {' or '.join(STORAGE)} file", "Check the path")
    if metadata is None:
        return found
    by_name = {file.name.removesuffix(".zstd"): file for file in found}
    named = [PurePath(str(name)).name.removesuffix(".zstd") for name in metadata["relative_file_paths"]]
    if missing := [name for name in named if name not in by_name]:
        if len(missing) < len(named) or not found:
            raise BagError(
                f"{path} lacks {', '.join(missing)}, which metadata.yaml names",
                "Copy the missing files too, or remove metadata.yaml to read the others alone",
            )
        _log.warning("%s: metadata.yaml names other files (renamed?); reading %s", path, [file.name for file in found])
        return found
    if extra := [name for name in by_name if name not in named]:
        _log.warning("%s: %s is left out, metadata.yaml does not name it", path, ", ".join(extra))
    return [by_name[name] for name in named]


def _open(file: Path, compressed: bool, ask: bool, stack: ExitStack) -> Part:
    storage = unpacked(file, stack)
    reader = _open_mcap(storage, file) if storage.suffix == ".mcap" else _open_sqlite(storage, stack)
    stack.callback(reader.close)
    if ask and (first := next(iter(reader.messages(reader.connections)), None)) is not None:
        compressed = first[2][:4] == _ZSTD_MAGIC
    return Part(reader, compressed, file.name)


def _open_mcap(file: Path, named: Path) -> McapReader | ScannedMcap:
    if (kind := profile(file)) == "ros1":
        raise BagError(f"{named} is a ROS 1 bag (mcap profile ros1)", _ROS1.format("THE_ORIGINAL.bag"))
    reader = McapReader(file)
    try:
        reader.open()
    except Exception:  # KeyError for a foreign schema, ReaderError for the profile or for damage
        if kind is None or not is_complete(file):
            raise
    else:
        if _index_is_complete(reader):
            return reader
        reader.close()
    _log.info("%s has no complete index of ROS 2 messages; it is read once to make one", named)
    scanned = ScannedMcap(file)
    scanned.open()
    return scanned


def _index_is_complete(reader: McapReader) -> bool:
    """False where rosbags would leave out messages silently or stop at the first one out of order."""
    counted = sum(connection.msgcount for connection in reader.connections)
    indexed = all(chunk.message_index_offsets or not chunk.message_end_time for chunk in reader.chunks)
    return counted == reader.metadata.message_count and indexed and bool(reader.chunks or not counted)


class _Sqlite(Sqlite3Reader):
    """rosbags' reader with a choice: immutable ignores -wal and -journal, which is right for a closed file only."""

    def __init__(self, path: Path, immutable: bool) -> None:
        super().__init__(path)
        self._uri = f"file:{quote(str(path))}?{'immutable=1' if immutable else 'mode=ro'}"

    def open(self) -> None:
        self.dbconn = apsw.Connection(self._uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
        try:
            self._open()
        except BaseException:
            self.close()
            raise


def _open_sqlite(file: Path, stack: ExitStack) -> Sqlite3Reader:
    logs = [log for end in ("-wal", "-journal") if (log := Path(f"{file}{end}")).is_file() and log.stat().st_size]
    if logs:
        _log.warning("%s was not closed: its log %s is read too", file, ", ".join(log.name for log in logs))
        copy = _temporary(stack) / file.name
        shutil.copyfile(file, copy)
        for log in logs:
            shutil.copyfile(log, copy.with_name(log.name))
        connection = sqlite3.connect(copy)
        connection.execute("PRAGMA journal_mode=DELETE").fetchall()  # takes the log into the file
        connection.close()
        file = copy
    reader = _Sqlite(file, immutable=True)
    reader.open()
    if not reader.metadata.message_count and not logs:
        _log.warning("%s holds no message; if there was a %s-wal beside it, copy that too", file, file.name)
    return reader
