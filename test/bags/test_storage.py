"""Bags as robots leave them: log not taken in, metadata empty, edited or old, parts compressed or missing, ROS 1."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from pathlib import Path

import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from ov3d_perception.bags.info import info
from ov3d_perception.bags.mcap import zstd
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.bags.salvage import repair
from ov3d_perception.bags.typestore import typestore
from ov3d_perception.bags.writer import LATCHED
from ov3d_perception.errors import BagError

S = 1_000_000_000
COUNTS = {"/odom": 20, "/points": 20, "/tf": 20, "/tf_static": 1}


def counts(path: Path) -> dict[str, int]:
    """Messages read, by topic; checks that they are as many as announced and in order."""
    with open_bag(path) as bag:
        stamps = [(message.topic, message.stamp) for message in bag.messages()]
        read = {topic: sum(name == topic for name, _ in stamps) for topic in bag.topics}
        assert read == {topic.name: topic.count for topic in bag.topics.values()}
    assert [stamp for _, stamp in stamps] == sorted(stamp for _, stamp in stamps)
    return read


def rewrite(drive: Path, out: Path, plugin: StoragePlugin, mode: CompressionMode = CompressionMode.NONE) -> Path:
    writer = Writer(out, version=8, storage_plugin=plugin)
    if mode is not CompressionMode.NONE:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer, open_bag(drive) as bag:
        connections = {
            topic: writer.add_connection(
                topic,
                bag.topics[topic].msgtype,
                typestore=typestore(),
                offered_qos_profiles=[LATCHED] if topic == "/tf_static" else [],
            )
            for topic in bag.topics
        }
        for message in bag.messages():
            writer.write(connections[message.topic], message.stamp, message.data)
    return out


def parts(drive: Path, out: Path, number: int = 3) -> list[Path]:
    """The drive's storage file as this many split files in a folder without metadata.yaml; each is the whole drive."""
    out.mkdir()
    files = [out / f"{out.name}_{index}.mcap" for index in range(number)]
    for file in files:
        shutil.copyfile(drive / f"{drive.name}.mcap", file)
    return files


def test_a_damaged_database_is_not_sent_to_bag_repair(drive: Path, tmp_path: Path) -> None:
    bag = rewrite(drive, tmp_path / "bag", StoragePlugin.SQLITE3)
    file = next(bag.glob("*.db3"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(BagError, match=r"malformed.*sqlite3 FILE .recover"):
        counts(bag)


@pytest.mark.parametrize("read_only", [False, True])
def test_the_log_of_a_killed_sqlite_recorder_is_read(drive: Path, tmp_path: Path, read_only: bool) -> None:
    whole = rewrite(drive, tmp_path / "whole", StoragePlugin.SQLITE3)
    database = sqlite3.connect(whole / "whole.db3")
    database.execute("PRAGMA journal_mode=WAL").fetchall()
    database.execute("PRAGMA wal_autocheckpoint=0").fetchall()
    rows = database.execute("SELECT * FROM messages").fetchall()
    database.execute("DELETE FROM messages")
    database.commit()
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    database.executemany("INSERT INTO messages VALUES (?, ?, ?, ?)", rows)
    database.commit()
    killed = tmp_path / "killed here"  # a space, which sqlite's URIs escape
    shutil.copytree(whole, killed)
    database.close()
    before = {file.name: file.read_bytes() for file in killed.iterdir()}
    killed.chmod(0o555 if read_only else 0o755)
    assert counts(killed) == COUNTS
    assert {file.name: file.read_bytes() for file in killed.iterdir()} == before  # the only copy stays as it was


@pytest.mark.parametrize("content", ["", "{", "rosbag2_bagfile_information:\n", "a: 1\n"])
def test_useless_metadata_is_not_needed(drive: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    (drive / "metadata.yaml").write_text(content)
    assert counts(drive) == COUNTS
    assert "metadata.yaml is empty or damaged" in caplog.text


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("storage_identifier: mcap", 'storage_identifier: ""'),
        ("storage_identifier: sqlite3", 'storage_identifier: ""'),
        ("durability: 1", "durability: 2"),
        ("message_count: 20", "message_count: 3"),
        ("name: /points", "name: /renamed"),
        ("whole.", "some/folder/whole."),
        ("version: 8", "version: 99"),
    ],
)
def test_storage_is_believed_not_its_metadata(
    drive: Path, tmp_path: Path, plugin: StoragePlugin, old: str, new: str
) -> None:
    whole = rewrite(drive, tmp_path / "whole", plugin)
    metadata = whole / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace(old, new))
    assert counts(whole) == COUNTS
    assert not info(whole).damage


def test_renamed_files_are_found(drive: Path, caplog: pytest.LogCaptureFixture) -> None:
    (drive / "drive.mcap").rename(drive / "monday.mcap")
    assert counts(drive) == COUNTS
    assert "names other files" in caplog.text


def test_missing_part_of_a_split_bag_is_named(drive: Path, tmp_path: Path) -> None:
    parts(drive, tmp_path / "split")[1].unlink()
    names = "".join(f"\n  - split_{index}.mcap" for index in range(3))
    text = f"rosbag2_bagfile_information:\n version: 8\n relative_file_paths:{names}\n"
    (tmp_path / "split/metadata.yaml").write_text(text)
    with pytest.raises(BagError, match=r"lacks split_1\.mcap, which metadata\.yaml names"):
        open_bag(tmp_path / "split")


def test_parts_that_overlap_are_merged_in_order(drive: Path, tmp_path: Path) -> None:
    parts(drive, tmp_path / "split", 2)
    assert counts(tmp_path / "split") == {topic: 2 * count for topic, count in COUNTS.items()}


def test_compressed_parts_of_a_killed_recorder_are_read(drive: Path, tmp_path: Path) -> None:
    for file in parts(drive, tmp_path / "killed")[:2]:
        file.with_name(f"{file.name}.zstd").write_bytes(zstd.compress(file.read_bytes()))
        if file.name != "killed_1.mcap":  # killed after compressing, before removing the original
            file.unlink()
    assert counts(tmp_path / "killed") == {topic: 3 * count for topic, count in COUNTS.items()}


def test_compressed_part_that_is_cut_off(drive: Path, tmp_path: Path) -> None:
    file = parts(drive, tmp_path / "cut", 1)[0]
    content = zstd.compress(file.read_bytes())
    file.unlink()
    file.with_name(f"{file.name}.zstd").write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(BagError, match=r"cut_0\.mcap\.zstd is cut off"):
        open_bag(tmp_path / "cut")
    saved = repair(tmp_path / "cut", tmp_path / "saved")
    assert saved.keys() <= COUNTS.keys()


@pytest.mark.parametrize("with_metadata", [False, True])
@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE])
@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_compressed_bags(
    drive: Path, tmp_path: Path, plugin: StoragePlugin, mode: CompressionMode, with_metadata: bool
) -> None:
    whole = rewrite(drive, tmp_path / "whole", plugin, mode)
    if not with_metadata:
        (whole / "metadata.yaml").unlink()
    with open_bag(drive) as one, open_bag(whole) as other:
        assert [m.data for m in other.messages(["/points"])] == [m.data for m in one.messages(["/points"])]


def test_ros1_bags_are_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.bag").write_bytes(b"#ROSBAG V2.0\n" + bytes(64))
    for path in (tmp_path, tmp_path / "a.bag"):
        with pytest.raises(BagError, match=r"ROS 1 bag.*rosbags-convert --src .*a\.bag"):
            open_bag(path)


def test_files_outside_the_metadata_are_told(drive: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copyfile(drive / "drive.mcap", drive / "other.mcap")
    with caplog.at_level(logging.WARNING):
        assert counts(drive) == COUNTS
    assert "other.mcap is left out" in caplog.text
