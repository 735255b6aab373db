#!/usr/bin/env bash
# rosbags 0.11.9 has the type `byte` of ROS 2 with a SIGN, as ROS 1 had it (there it was another name of int8). In ROS 2 it is
# an octet, 0 to 255: rclpy gives bytes, C++ an unsigned char, and mcap-ros2-support 0.5.7 reads 200 where 200 is. So drivers'
# packets and flags, byte[] in messages of their own, have negative values above 127, and a bit that is shifted down takes the
# sign with it. What is compared with 0xC8, or makes an index, goes another way; writing 200 to a single `byte` raises. char
# and uint8 are read right. mcap-ros2-support errs the other way about: it has `char`, which in ROS 2 is uint8 by another name,
# with a sign, so a single reader for all eight-bit types is neither.
# Seen here, of a message with byte 200, byte[] 5 and 200, char 200, uint8 200: rosbags -56, [5, -56], 200, 200,
# mcap-ros2-support 200, [5, 200], -56, 200.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q rosbags==0.11.9 mcap==1.3.1 mcap-ros2-support==0.5.7 numpy==2.2.6
cd "$tmp"
venv/bin/python -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

from mcap.reader import make_reader
from mcap.writer import Writer
from mcap_ros2.decoder import DecoderFactory
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

NAME, DEFINITION = "made/msg/Packet", "byte flag\nbyte[] data\nchar sign\nuint8 last\n"
# The encapsulation, the flag, padding, the number of bytes, the bytes, the char and the last one
CDR = bytes([0, 1, 0, 0]) + bytes([200, 0, 0, 0]) + bytes([2, 0, 0, 0]) + bytes([5, 200]) + bytes([200, 200])

store = get_typestore(Stores.ROS2_JAZZY)
store.register(get_types_from_msg(DEFINITION, NAME))
read = store.deserialize_cdr(CDR, NAME)
signed = int(read.flag), read.data.tolist(), int(read.sign), int(read.last)

with open("made.mcap", "wb") as file:
    writer = Writer(file)
    writer.start("ros2")
    schema = writer.register_schema(NAME, "ros2msg", DEFINITION.encode())
    channel = writer.register_channel("/packets", "cdr", schema)
    writer.add_message(channel, 1, CDR, 1)
    writer.finish()
with open("made.mcap", "rb") as file:
    ((*_, message),) = make_reader(file, decoder_factories=[DecoderFactory()]).iter_decoded_messages()


def number(value):
    return value[0] if isinstance(value, bytes) else int(value)


octets = number(message.flag), [number(value) for value in message.data], number(message.sign), number(message.last)
print("rosbags", version("rosbags"), signed, "mcap-ros2-support", version("mcap-ros2-support"), octets)
same = signed == (-56, [5, -56], 200, 200) and octets == (200, [5, 200], -56, 200)
sys.exit(0 if same else "changed: the signs of bytes or chars")
PYTHON
