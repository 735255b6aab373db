"""The map file (``.ov3dmap``): one versioned file, every byte of it under a checksum. ``docs/maps.md`` lays it out.

It starts with 56 bytes: magic, version (uint32), length of the header (uint64), SHA-256 of version, length and header;
then comes the header (JSON) and, up to the end, the payload, whose length and SHA-256 the header tells. The payload:
named arrays, the voxels in blocks with all columns of a block one after the other, and more named arrays. Numbers are
little-endian, arrays row-major. Nothing is compressed: zlib saves a fifth of a voxel's 70 bytes (48 channels) and takes
1.5 s a million voxels, where all of saving takes 0.13 s.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ov3d_perception.errors import MapFileError
from ov3d_perception.files import replacing
from ov3d_perception.mapping.voxel_table import VoxelRecords

MAGIC = b"\x89OV3DMAP\r\n\x1a\n"  # as PNG's: a transfer as text spoils it
VERSION = 1
_TYPES = {"key": "<i8", "features": "|i1", "factor": "<f2", "weight": "|u1", "missed": "|u1", "last_seen": "<i8"}
_TYPES |= {"code": "<u2"}
_START = struct.Struct("<12sIQ32s")
_COUNT = struct.Struct("<I")
_PIECE = 1 << 22  # bytes read at a time
_SPARE = 1024  # characters that the header may grow by while the voxels are written
_COPY = "Copy it again from where it came, or take an older one; this one was not used and not changed"


class _Payload:
    """Writes a payload, and keeps its layout and checksum."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest, self.length = file, hashlib.sha256(), 0
        self.arrays: list[list[Any]] = []

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        self._file.write(data)
        self._digest.update(data)
        self.length += len(data)

    def add(self, name: str, array: np.ndarray) -> None:
        """Append a named array."""
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        self.arrays.append([name, array.dtype.str, list(array.shape), self.length])
        self.write(array.tobytes())

    def description(self) -> dict[str, Any]:
        """The header's entry for it."""
        return {"bytes": self.length, "sha256": self._digest.hexdigest()}


def write(
    path: Path | str,
    header: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    records: Iterable[VoxelRecords],
    later: Iterable[tuple[str, np.ndarray]],
) -> dict[str, Any]:
    """Write a map file in one step (:func:`replacing`); returns the header as it was written.

    ``records`` are written one by one and never held together; ``later``: arrays that are read after them.
    """
    with replacing(path) as file:
        room = len(_pack_header(header, 0)) + _SPARE
        file.write(bytes(_START.size + room))
        payload, voxels, blocks = _Payload(file), 0, 0
        for name, array in arrays.items():
            payload.add(name, array)
        start = payload.length
        for block in records:
            payload.write(_COUNT.pack(len(block)))
            for name, kind in _TYPES.items():
                payload.write(np.ascontiguousarray(getattr(block, name), kind).tobytes())
            voxels, blocks = voxels + len(block), blocks + 1
        for name, array in later:
            payload.add(name, array)
        width = int(arrays["basis"].shape[0])
        columns = [[name, kind, width if name == "features" else 1] for name, kind in _TYPES.items()]
        layout = {"voxels": voxels, "blocks": blocks, "blocks_at": start, "columns": columns, "arrays": payload.arrays}
        whole = {**header, **layout, "payload": payload.description()}
        packed = _pack_header(whole, room)
        file.seek(0)
        file.write(_START.pack(MAGIC, VERSION, len(packed), _header_digest(VERSION, packed)) + packed)
    return whole


class MapFile:
    """An open map file whose header is valid. Raises MapFileError otherwise.

    header: as written. Read the payload only after :meth:`verify`.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).expanduser()
        try:
            self._file = self.path.open("rb")
        except FileNotFoundError as error:
            raise MapFileError(f"There is no map file {self.path}", "Check the path, or save a map there") from error
        except OSError as error:
            raise MapFileError(f"{self.path} cannot be read ({error.strerror})", "Check its rights and disk") from error
        try:
            self.header = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> MapFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def verify(self) -> None:
        """Read the payload once and compare its checksum. Raises MapFileError."""
        self._file.seek(self._payload_at)
        digest = hashlib.sha256()
        while piece := self._read(_PIECE):
            digest.update(piece)
        if digest.hexdigest() != self.header["payload"]["sha256"]:
            raise self._damaged("its content does not match its checksum")

    def array(self, name: str) -> np.ndarray:
        """A named array; MapFileError if there is none."""
        for found, kind, shape, offset in self.header["arrays"]:
            if found == name:
                self._file.seek(self._payload_at + offset)
                return np.frombuffer(self._take(np.dtype(kind), math.prod(shape)), kind).reshape(shape).copy()
        raise self._damaged(f"it holds no '{name}'")

    def records(self) -> Iterator[VoxelRecords]:
        """The voxels, a block at a time."""
        at = self._payload_at + int(self.header["blocks_at"])
        for _ in range(int(self.header["blocks"])):
            self._file.seek(at)
            (count,) = _COUNT.unpack(self._take(np.dtype(np.uint8), _COUNT.size))
            columns = {}
            for name, kind, width in self.header["columns"]:
                flat = np.frombuffer(self._take(np.dtype(kind), count * width), kind)
                columns[name] = flat.reshape(count, width) if name == "features" else flat
            at = self._file.tell()
            yield VoxelRecords(**{field.name: columns[field.name] for field in fields(VoxelRecords)})

    def _read_header(self) -> dict[str, Any]:
        start, size = self._read(_START.size), os.fstat(self._file.fileno()).st_size
        if not size:
            raise MapFileError(f"{self.path} is empty (0 bytes)", _COPY)
        if not (MAGIC.startswith(start) or start.startswith(MAGIC)):
            raise MapFileError(f"{self.path} is not a map file", "Name a file that `ov3d map save` wrote")
        if len(start) < _START.size:
            raise self._damaged(f"it ends after {size} bytes")
        _, version, length, digest = _START.unpack(start)
        if version > VERSION:
            raise MapFileError(
                f"{self.path} has map format {version}, this program reads up to {VERSION}",
                "Update this program, or save the map with the older one",
            )
        if length > size - _START.size:
            raise self._damaged(f"it ends within its header, after {size} bytes")
        packed = self._read(length)
        if _header_digest(version, packed) != digest:
            raise self._damaged("its header does not match its checksum")
        self._payload_at = _START.size + length
        try:
            header: dict[str, Any] = json.loads(packed)
            expected = self._payload_at + int(header["payload"]["bytes"])
            columns = {str(name): str(kind) for name, kind, _ in header["columns"]}
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(f"its header makes no sense ({type(error).__name__}: {error})") from error
        if size != expected:
            raise self._damaged(f"it has {size} of {expected} bytes")
        if columns != _TYPES:
            raise self._damaged("its columns are not those of its version")
        return header

    def _take(self, kind: np.dtype[Any], count: int) -> bytes:
        data = self._read(kind.itemsize * count)
        if len(data) != kind.itemsize * count:
            raise self._damaged("it ends too early")
        return data

    def _read(self, count: int) -> bytes:
        try:
            return self._file.read(count)
        except OSError as error:
            raise MapFileError(f"{self.path} cannot be read ({error.strerror})", "Check the disk it is on") from error

    def _damaged(self, why: str) -> MapFileError:
        return MapFileError(f"{self.path} is damaged: {why}", _COPY)


def _pack_header(header: Mapping[str, Any], room: int) -> bytes:
    """JSON, filled up with spaces to ``room`` bytes."""
    return json.dumps(header).encode().ljust(room)


def _header_digest(version: int, packed: bytes) -> bytes:
    return hashlib.sha256(struct.pack("<IQ", version, len(packed)) + packed).digest()
