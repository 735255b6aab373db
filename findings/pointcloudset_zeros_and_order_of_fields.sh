#!/usr/bin/env bash
# pointcloudset 0.14.0 (rosbags 0.9.23), Dataset.from_file of a bag with PointCloud2:
# 1. It takes a point for a missing return when ANY of its coordinates is 0, not all three. A beam at no elevation has z = 0
#    exactly, so that this ring is gone from every scan; of a 2D LiDAR's cloud nothing is left, and the frame is empty.
#    keep_zeros=True keeps these points, and the missing returns with them.
# 2. The numbers come in the order in which the fields lie in a point, the columns are named in the order in which the message
#    lists them. A message may list them in any order; then x is the intensity, and nothing is said.
# Its timestamps are the recorder's, not the headers'.
# Seen here: of (1, 1, 0), (2, 0, 1), (0, 0, 0) and (3, 3, 3) only the last is kept; x of 1, 2, 0, 3 with an intensity of 10,
# 20, 30, 40 reads 10, 20, 30, 40 once the message lists the intensity first.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-deps pointcloudset==0.14.0
"$tmp/venv/bin/pip" install -q rosbags==0.9.23 numpy==2.4.6 pandas==3.0.0 scipy==1.17.1 dask==2026.8.0 plotly==6.5.0 \
    scikit-learn==1.8.0 rich==14.2.0 typer==0.20.0 laspy==2.7.0 pypcd4==1.5.1 pyarrow==22.0.0
"$tmp/venv/bin/python" - "$tmp" <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pointcloudset import Dataset
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_typestore

store = get_typestore(Stores.ROS2_HUMBLE)
Cloud, Field, Header, Time = (
    store.types[name]
    for name in ("sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/PointField", "std_msgs/msg/Header",
                 "builtin_interfaces/msg/Time")
)  # fmt: skip
points = np.array(
    [(1, 1, 0, 10), (2, 0, 1, 20), (0, 0, 0, 30), (3, 3, 3, 40)],
    [(name, np.float32) for name in ("x", "y", "z", "intensity")],
)
FLOAT32, size = 7, points.dtype.itemsize


def dataset(name, listed, **options):
    cloud = Cloud(
        header=Header(stamp=Time(sec=100, nanosec=0), frame_id="lidar"), height=1, width=len(points),
        fields=[Field(name=one, offset=points.dtype.fields[one][1], datatype=FLOAT32, count=1) for one in listed],
        is_bigendian=False, point_step=size, row_step=points.nbytes, data=np.frombuffer(points.tobytes(), np.uint8),
        is_dense=True,
    )  # fmt: skip
    bag = Path(sys.argv[1]) / name
    with Writer(bag) as writer:
        connection = writer.add_connection("/points", Cloud.__msgtype__, typestore=store)
        writer.write(connection, 100_250_000_000, store.serialize_cdr(cloud, Cloud.__msgtype__))
    return Dataset.from_file(bag, topic="/points", **options)


usual = dataset("usual", ("x", "y", "z", "intensity"))
turned = dataset("turned", ("intensity", "z", "y", "x"), keep_zeros=True)
kept, x = usual[0].data[["x", "y", "z"]].to_numpy().tolist(), turned[0].data["x"].tolist()
print("pointcloudset", version("pointcloudset"), "kept of four:", kept, "at", usual.timestamps[0].timestamp(),
      "x of a message that lists the intensity first:", x)  # fmt: skip
same = kept == [[3, 3, 3]] and x == [10, 20, 30, 40] and usual.timestamps[0].timestamp() == 100.25
sys.exit(0 if same else "changed: points with one zero are kept, or the columns are right")
PYTHON
