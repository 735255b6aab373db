#!/usr/bin/env bash
# rosbags 0.11.9 writes .mcap files without any checksum: the CRC of each chunk, of the data section and of the summary is
# 0, which the format defines as "not available". The format's own writer (mcap 1.3.1, Python) fills those of chunks and
# summary unless told not to. So one wrong bit of a bag that rosbags wrote or converted is read as data, by rosbags and by every other reader,
# while the same bit in a file of the format's own writer is found, by rosbags, too.
# Seen here: rosbags' file: chunk CRCs {0}, data 0, summary 0; a flipped bit turns "aaaa..." into another text, silently.
#            mcap's file:   those of chunks and summary filled; rosbags raises "Chunk checksum mismatch."
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q rosbags==0.11.9 mcap==1.3.1 numpy==2.4.6
"$tmp/venv/bin/python" - "$tmp" <<'PYTHON'
import struct
import sys
from pathlib import Path

from mcap.records import Chunk, DataEnd, Footer
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

folder, store, TEXT = Path(sys.argv[1]), get_typestore(Stores.ROS2_JAZZY), "a" * 1000
data = bytes(store.serialize_cdr(store.types["std_msgs/msg/String"](data=TEXT), "std_msgs/msg/String"))

with Writer(folder / "rosbags", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
    connection = writer.add_connection("/words", "std_msgs/msg/String", typestore=store)
    for stamp in range(3):
        writer.write(connection, stamp, data)

own = folder / "own.mcap"
with own.open("wb") as file:
    writer = McapWriter(file, compression=CompressionType.NONE)
    writer.start("ros2", "test")
    schema = writer.register_schema("std_msgs/msg/String", "ros2msg", b"string data\n")
    channel = writer.register_channel("/words", "cdr", schema, {"offered_qos_profiles": ""})
    for stamp in range(3):
        writer.add_message(channel, stamp, data, stamp)
    writer.finish()


def checksums(path):
    found = {"chunks": set()}
    for record in StreamReader(path.open("rb"), emit_chunks=True).records:
        if isinstance(record, Chunk):
            found["chunks"].add(record.uncompressed_crc != 0)
        elif isinstance(record, DataEnd):
            found["data"] = record.data_section_crc != 0
        elif isinstance(record, Footer):
            found["summary"] = record.summary_crc != 0
    return found


def read_with_a_flipped_bit(bag, file):
    content = bytearray(file.read_bytes())
    content[content.index(TEXT.encode()) + 500] ^= 1
    file.write_bytes(content)
    try:
        with Reader(bag) as reader:
            first = next(iter(reader.messages()))[2]
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "read, the text is right" if first == data else "read, the text is wrong"


of_rosbags = folder / "rosbags" / "rosbags.mcap"
metadata = (folder / "rosbags" / "metadata.yaml").read_text()
bag = folder / "own"
bag.mkdir()
(bag / "metadata.yaml").write_text(metadata.replace("rosbags.mcap", "own.mcap"))
own = own.rename(bag / "own.mcap")
sums = checksums(of_rosbags), checksums(own)
said = read_with_a_flipped_bit(of_rosbags.parent, of_rosbags), read_with_a_flipped_bit(bag, own)
for name, have, what in zip(("rosbags", "mcap"), sums, said):
    print(f"{name}: checksums there {have}; with one flipped bit rosbags says: {what}")
none = {"chunks": {False}, "data": False, "summary": False}
same = sums[0] == none and True in sums[1]["chunks"] and said[0] == "read, the text is wrong"
sys.exit(0 if same and "checksum" in said[1] else "changed: rosbags writes checksums, or no longer heeds them")
PYTHON
