"""MCAP files that other writers make (https://mcap.dev/spec), and ones cut off inside a compressed chunk."""

from __future__ import annotations

import struct
from binascii import crc32
from dataclasses import dataclass
from pathlib import Path

import lz4.frame
import pytest

from ov3d_perception.bags.info import info
from ov3d_perception.bags.mcap import MAGIC, zstd
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.bags.salvage import repair, salvage
from ov3d_perception.errors import BagError

STAMPS = list(range(1000, 1010))
COMPRESS = {"": bytes, "zstd": zstd.compress, "lz4": lz4.frame.compress}


@dataclass(frozen=True)
class Channel:
    topic: str = "/words"
    msgtype: str = "std_msgs/msg/String"
    definition_encoding: str = "ros2msg"
    definition: bytes = b"string data\n"
    encoding: str = "cdr"


JSON = Channel("/odom", "Odom", "jsonschema", b'{"type":"object"}', "json")
PROTOBUF = Channel("/lidar", "foxglove.PointCloud", "protobuf", b"\x0a\xff\xfe", "protobuf")
ROS1 = Channel("/chat", "std_msgs/String", "ros1msg", b"string data", "ros1")


def sized(data: bytes | str) -> bytes:
    data = data.encode() if isinstance(data, str) else data
    return struct.pack("<I", len(data)) + data


def record(kind: int, body: bytes) -> bytes:
    return struct.pack("<BQ", kind, len(body)) + body


def words(number: int, padding: int = 0) -> bytes:
    """CDR of a std_msgs/String that names its number; padding: bytes that do not compress."""
    text = f"{number:04d}" + "".join(chr(33 + (number * 7919 + i * i * 31) % 90) for i in range(padding))
    return b"\x00\x01\x00\x00" + struct.pack("<I", len(text) + 1) + text.encode() + b"\x00"


def write(
    path: Path,
    channels: tuple[Channel, ...] = (Channel(),),
    *,
    profile: str = "ros2",
    stamps: list[int] = STAMPS,
    compression: str | None = None,
    message_index: bool = False,
    chunk_index: bool = True,
    summary: bool = True,
    padding: int = 0,
) -> Path:
    """Every channel has one message a stamp, in this order. compression None: not in a chunk."""
    declared = b"".join(
        record(3, struct.pack("<H", i + 1) + sized(c.msgtype) + sized(c.definition_encoding) + sized(c.definition))
        + record(4, struct.pack("<HH", i, i + 1) + sized(c.topic) + sized(c.encoding) + sized(b""))
        for i, c in enumerate(channels)
    )
    content = declared
    index: dict[int, bytes] = {i: b"" for i in range(len(channels))}
    for stamp in stamps:
        for i in index:
            index[i] += struct.pack("<QQ", stamp, len(content))
            content += record(5, struct.pack("<HIQQ", i, 0, stamp, stamp) + words(stamp, padding))
    file = MAGIC + record(1, sized(profile) + sized("test"))
    indexes = b""
    if compression is None:
        file += content
    else:
        stored = COMPRESS[compression](content)
        span = struct.pack("<QQ", min(stamps), max(stamps))
        at = len(file)
        head = (
            span
            + struct.pack("<QI", len(content), crc32(content))
            + sized(compression)
            + struct.pack("<Q", len(stored))
        )
        file += record(6, head + stored)
        length, behind = len(file) - at, len(file)
        offsets = b""
        if message_index:
            for i, entries in index.items():
                offsets += struct.pack("<HQ", i, len(file))
                file += record(7, struct.pack("<H", i) + sized(entries))
        place = struct.pack("<QQ", at, length) + sized(offsets) + struct.pack("<Q", len(file) - behind)
        indexes = record(8, span + place + sized(compression) + struct.pack("<QQ", len(stored), len(content)))
    file += record(15, struct.pack("<I", 0))
    start = len(file) if summary else 0
    if summary:
        counts = b"".join(struct.pack("<HQ", i, len(stamps)) for i in index)
        total = len(stamps) * len(channels)
        statistics = struct.pack("<QHIIIIQQ", total, len(channels), len(channels), 0, 0, 0, min(stamps), max(stamps))
        file += declared + (indexes if chunk_index else b"") + record(11, statistics + sized(counts))
    path.write_bytes(file + record(2, struct.pack("<QQI", start, 0, 0)) + MAGIC)
    return path


def read(path: Path, **span: int) -> list[tuple[int, bytes]]:
    with open_bag(path) as bag:
        return [(message.stamp, message.data) for message in bag.messages(["/words"], **span)]


@pytest.mark.parametrize("compression", [None, "", "zstd", "lz4"])
@pytest.mark.parametrize("message_index", [True, False])
@pytest.mark.parametrize("chunk_index", [True, False])
@pytest.mark.parametrize("summary", [True, False])
@pytest.mark.parametrize("profile", ["ros2", ""])
@pytest.mark.parametrize("ordered", [True, False])
def test_every_legal_layout_gives_every_message_in_order(
    tmp_path: Path,
    compression: str | None,
    message_index: bool,
    chunk_index: bool,
    summary: bool,
    profile: str,
    ordered: bool,
) -> None:
    stamps = STAMPS if ordered else [*STAMPS[5:], *STAMPS[:5]]
    path = write(
        tmp_path / "a.mcap",
        profile=profile,
        stamps=stamps,
        compression=compression,
        message_index=message_index,
        chunk_index=chunk_index,
        summary=summary,
    )
    assert read(path) == [(stamp, words(stamp)) for stamp in STAMPS]
    assert read(path, start=1003, stop=1005) == [(1003, words(1003)), (1004, words(1004))]
    found = info(path)
    assert (found.start, found.end, found.topics[0].count, found.damage) == (1000, 1009, 10, "")


@pytest.mark.parametrize("compression", [None, "zstd"])
@pytest.mark.parametrize("foreign", [JSON, PROTOBUF])
def test_channels_that_are_not_ros2_are_left_out_and_told(
    tmp_path: Path, compression: str | None, foreign: Channel
) -> None:
    path = write(tmp_path / "a.mcap", (foreign, Channel()), compression=compression, message_index=True)
    assert read(path) == [(stamp, words(stamp)) for stamp in STAMPS]
    text = str(info(path))
    assert f"{foreign.topic} is left out: its messages are {foreign.encoding}, not CDR" in text
    assert "DAMAGED" not in text
    assert repair(path, tmp_path / "repaired") == {"/words": 10}


@pytest.mark.parametrize(
    ("channels", "profile", "said"),
    [
        ((JSON, PROTOBUF), "", "its messages are json, protobuf, not CDR"),
        ((ROS1,), "ros1", "ROS 1 bag.*rosbags-convert"),
        ((ROS1,), "", "its messages are ros1, not CDR"),
    ],
)
def test_files_without_ros2_messages_are_not_called_damaged(
    tmp_path: Path, channels: tuple[Channel, ...], profile: str, said: str
) -> None:
    path = write(tmp_path / "a.mcap", channels, profile=profile)
    for function in (open_bag, info):
        with pytest.raises(BagError, match=said) as error:
            function(path)
        assert "repair" not in str(error.value)


@pytest.mark.parametrize("compression", ["", "zstd", "lz4"])
def test_chunk_that_is_cut_off_keeps_what_is_before(tmp_path: Path, compression: str) -> None:
    path = write(tmp_path / "a.mcap", compression=compression, padding=100_000)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 5])
    with pytest.raises(BagError, match="ov3d bag repair"):
        open_bag(path)
    saved = [(message.log_time, message.data) for message in salvage(path)]
    assert 3 <= len(saved) < 10  # 3/5 of the file, less than a compressor's block of four messages
    assert saved == [(stamp, words(stamp, 100_000)) for stamp in STAMPS[: len(saved)]]
    assert info(path).topics[0].count == len(saved)
    assert repair(path, tmp_path / "repaired") == {"/words": len(saved)}


@pytest.mark.parametrize("message_index", [True, False])
@pytest.mark.parametrize("compression", ["", "zstd", "lz4"])
def test_damage_inside_a_closed_file_is_told(tmp_path: Path, compression: str, message_index: bool) -> None:
    path = write(tmp_path / "a.mcap", compression=compression, padding=100_000, message_index=message_index)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    path.write_bytes(data)
    said = "cannot be read" if message_index else "A chunk is damaged"  # rosbags' words, or ours
    with pytest.raises(BagError, match=rf"({said}).*ov3d bag repair"):
        read(path)


@pytest.mark.parametrize("message_index", [True, False])
def test_one_wrong_bit_of_an_uncompressed_chunk_is_told(tmp_path: Path, message_index: bool) -> None:
    path = write(tmp_path / "a.mcap", compression="", padding=1000, message_index=message_index)
    data = bytearray(path.read_bytes())
    data[data.index(b"1005") + 500] ^= 1
    path.write_bytes(data)
    with pytest.raises(BagError, match=r"[Cc]hecksum"):
        read(path)
