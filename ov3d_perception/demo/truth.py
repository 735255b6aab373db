"""The ground truth of a recorded drive, scan by scan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32

from ov3d_perception.bags.pointcloud2 import decode, structured
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.errors import BagError
from ov3d_perception.geometry.deskew import deskew
from ov3d_perception.geometry.poses import transform
from ov3d_perception.types import Pose, Poses, Scan, Stamps

POINTS, TRUTH = "/points", "/ground_truth/points"


@dataclass(frozen=True)
class TrueScan:
    """A scan as measured (``scan``), the label of each of its points, and its points in ``map``, motion compensated."""

    scan: Scan
    labels: Int32[np.ndarray, " n"]
    xyz_map: Float32[np.ndarray, "n 3"]
    T_map_lidar: Pose


def read_truth(bag: str | Path) -> dict[int, TrueScan]:
    """Every labelled scan of a simulated bag, by its stamp (ns). Raises BagError if the bag holds no ground truth."""
    scans: dict[int, TrueScan] = {}
    with open_bag(bag) as opened:
        tree = opened.transforms()
        waiting: dict[int, Scan] = {}
        for message in opened.messages([POINTS, TRUTH]):
            decoded = message.decode()
            if message.topic == POINTS:
                scan = decode(decoded)
                waiting[scan.stamp] = scan
                continue
            stamp = decoded.header.stamp.sec * 1_000_000_000 + decoded.header.stamp.nanosec
            if stamp not in waiting:
                continue
            scan = waiting.pop(stamp)
            labels = structured(decoded)["label"].astype(np.int32)
            if scan.source_index is not None:
                labels = labels[scan.source_index]

            def poses(at: Stamps, frame: str = scan.frame_id) -> Poses:
                return tree.lookup_each("map", frame, at, tolerance_ns=200_000_000)

            (T_map_lidar,) = poses(np.array([stamp]))
            still = deskew(scan, poses)
            scans[stamp] = TrueScan(scan, labels, transform(T_map_lidar, still.xyz), T_map_lidar)
    if not scans:
        raise BagError(f"{bag} holds no scan with ground truth", f"Simulate a drive: it has {POINTS} and {TRUTH}")
    return scans
