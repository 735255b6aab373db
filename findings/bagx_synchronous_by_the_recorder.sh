#!/usr/bin/env bash
# bagx 0.6.0, `bagx sync BAG A B` and the sync part of its score, "time synchronization between topics":
# 1. Times are those at which the RECORDER got the messages, not the stamps of their headers, which fusion goes by. A camera whose
#    clock is half a second, or a day, off is "excellent for tightly-coupled fusion"; a LiDAR's stamps at the beginning
#    of its scans and a driver's delay are not seen either.
# 2. For each message of A the nearest of B is sought: of a slow and a fast topic the mean is small one way round, and a
#    quarter of the slow one's period the other way round. The verdict is that of the order of the names.
# 3. An .mcap with a channel that is not ROS 2's (Foxglove's JSON, say): at its first message all is read anew from the
#    beginning, undecoded. What came before is there twice, in counts, rates and exported tables; what comes after has no values.
# Seen here, a LiDAR at 10 Hz and an IMU at 200 Hz, received at the same moments, whose stamps are 0.5 s apart: LiDAR, IMU 0 ms;
# IMU, LiDAR 25 ms, "enable per-point deskew". Ten messages with a JSON one behind the seventh are exported as 17.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q "bagx[mcap]==0.6.0" rosbags==0.11.9 numpy==2.2.6
cd "$tmp"
venv/bin/python -W ignore - <<'PYTHON'
import io
import json
import sys
from importlib.metadata import version
from pathlib import Path

from bagx.export import export_bag
from bagx.sync import analyze_sync, print_sync_report
from mcap_ros2.writer import Writer as Ros2Writer
from rich.console import Console
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

START, KIND = 1_700_000_000 * 10**9, "geometry_msgs/msg/PointStamped"
store = get_typestore(Stores.ROS2_HUMBLE)


def make(name, *values):
    return store.types[name](*values)


with Writer(Path("bag"), version=9, storage_plugin=StoragePlugin.MCAP) as writer:
    for topic, step, late in (("/lidar", 10**8, 5 * 10**8), ("/imu", 5 * 10**6, 0)):
        connection = writer.add_connection(topic, KIND, typestore=store)
        for received in range(START, START + 10 * 10**9, step):
            stamp = make("builtin_interfaces/msg/Time", *divmod(received - late, 10**9))
            message = make(KIND, make("std_msgs/msg/Header", stamp, topic[1:]), make("geometry_msgs/msg/Point", 0, 0, 0))
            writer.write(connection, received, store.serialize_cdr(message, KIND))
bag = str(next(Path("bag").glob("*.mcap")))
means, verdicts = [], []
for pair in (("/lidar", "/imu"), ("/imu", "/lidar")):
    report, text = analyze_sync(bag, *pair), io.StringIO()
    print_sync_report(report, Console(file=text, width=200))
    means.append(round(report.pairs[0].mean_delay_ms, 1))
    verdicts.append(text.getvalue().split("—")[-1].strip())
with open("mixed.mcap", "wb") as file:
    mixed = Ros2Writer(file)
    number = mixed.register_msgdef("std_msgs/msg/UInt8", "uint8 data")
    other = mixed._writer.register_channel("/json", "json", mixed._writer.register_schema("any", "jsonschema", b"{}"))
    for i in range(10):
        mixed.write_message("/number", number, {"data": i}, log_time=START + i, publish_time=0)
        if i == 6:
            mixed._writer.add_message(other, START + i, b"{}", 0)
    mixed.finish()
rows = [one.get("data") for one in json.loads(export_bag("mixed.mcap", "out", fmt="json")["/number"].read_text())]
print("bagx", version("bagx"), "stamps are 500 ms apart; LiDAR, IMU:", means[0], verdicts[0], "; IMU, LiDAR:", means[1], verdicts[1],
      "; exported:", rows)  # fmt: skip
same = means[0] == 0 and 24 < means[1] < 30 and "excellent" in verdicts[0] and "deskew" in verdicts[1]
same = same and rows == [*range(7), *[None] * 10]
sys.exit(0 if same else "changed: stamps are compared, or both ways round alike")
PYTHON
