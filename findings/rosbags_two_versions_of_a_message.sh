#!/usr/bin/env bash
# rosbags 0.11.9, AnyReader of SEVERAL bags, as a campaign of many drives is read: definitions are kept by the type's name, so
# that the last bag's is used for all. Where a message changed between the recordings the earlier bags are read by the
# later definition. Where the fields have the same sizes in another order, values come under other names, and nothing
# is said, though each bag stores its own definition and its RIHS01 hash: the hash that is checked is the last one, too.
# Opened one by one each bag is right.
# Seen here: x = 1.5, y = 2.5 of a bag whose message is "float32 x, float32 y" reads x = 2.5, y = 1.5 beside a bag in which it
# is "float32 y, float32 x".
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q rosbags==0.11.9 numpy==2.4.6
cd "$tmp"
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

NAME = "site_msgs/msg/Cone"
for bag, fields in (("old", "xy"), ("new", "yx")):
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg("\n".join(f"float32 {field}" for field in fields), NAME))
    with Writer(Path(bag), version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(f"/{bag}", NAME, typestore=store)
        writer.write(connection, 1, store.serialize_cdr(store.types[NAME](**{"x": 1.5, "y": 2.5}), NAME))


def read(*bags):
    with AnyReader([Path(bag) for bag in bags]) as reader:
        found = {c.topic: (reader.deserialize(data, c.msgtype), c.digest) for c, _, data in reader.messages()}
        return {topic: (cone.x, cone.y, digest[:14]) for topic, (cone, digest) in found.items()}


together, alone = read("old", "new"), [read("old"), read("new")]
print("rosbags", version("rosbags"), "together:", together, "alone:", *alone)
same = together["/old"][:2] == (2.5, 1.5) and together["/new"][:2] == (1.5, 2.5)
same = same and all(one[:2] == (1.5, 2.5) for bag in alone for one in bag.values())
same = same and len({one[2] for one in together.values()}) == 2  # their hashes differ and are known
sys.exit(0 if same else "changed: each bag is read by its own definition, or two of them raise")
PYTHON
