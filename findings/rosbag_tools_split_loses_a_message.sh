#!/usr/bin/env bash
# rosbag-tools 0.0.10 (rosbags 0.9.16, which it asks for): `split` turns the limits of the parts into floating-point
# nanoseconds, which today have steps of 256. The limit of the first part, the bag's beginning, comes to lie before or behind
# the first message: in half of all bags the FIRST message is left out, which often is /tf_static or a latched map, and in the
# others the last one may be. Stamps on the raster, such as a simulator's whole seconds, lose nothing, and a message at
# a limit is in both parts. Nothing is said.
# Seen here, 11 messages at 10 Hz, split at 0.5 s: begun at ...123456700 ns the first is missing, at ...123456789 the last, at
# whole seconds none, and the sixth is there twice.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q rosbag-tools==0.0.10 rosbags==0.9.16 pandas==2.2.3 numpy==2.2.6
cd "$tmp"
TQDM_DISABLE=1 venv/bin/python -W ignore - <<'PYTHON'
import contextlib
import sys
from importlib.metadata import version
from pathlib import Path

from rosbag_tools.split.splitter import BagSplitter
from rosbags.rosbag2 import Reader, Writer
from rosbags.serde import deserialize_cdr, serialize_cdr
from rosbags.typesys.types import std_msgs__msg__UInt8 as Number

KIND, SECONDS = "std_msgs/msg/UInt8", 1_700_000_000 * 10**9


def parts(nanoseconds):
    """The messages' numbers in the two parts of a bag that begins so many nanoseconds after a second."""
    bag = Path(f"bag{nanoseconds}")
    with Writer(bag) as writer:
        connection = writer.add_connection("/number", KIND)
        for i in range(11):
            writer.write(connection, SECONDS + nanoseconds + i * 10**8, serialize_cdr(Number(i), KIND))
    with contextlib.redirect_stdout(None):
        BagSplitter(bag).split_rosbag([0.5], Path(f"{bag}_part"))
    found = []
    for i in (1, 2):
        with Reader(Path(f"{bag}_part_0{i}")) as reader:
            found.append([deserialize_cdr(data, KIND).data for _, _, data in reader.messages()])
    return found


found = {nanoseconds: parts(nanoseconds) for nanoseconds in (123456700, 123456789, 0)}
print("rosbag-tools", version("rosbag-tools"), found)
expected = {123456700: [range(1, 6), range(6, 11)], 123456789: [range(5), range(5, 10)], 0: [range(6), range(5, 11)]}
same = all(list(map(list, expected[key])) == value for key, value in found.items())
sys.exit(0 if same else "changed: each message is in one part")
PYTHON
