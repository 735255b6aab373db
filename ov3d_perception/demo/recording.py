"""The drive as a Rerun recording: labelled scans and camera images over time, the map, the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import rerun as rr
from jaxtyping import Float32, Int32

from ov3d_perception.demo.score import LabelledScan
from ov3d_perception.demo.truth import TrueScan
from ov3d_perception.geometry.boxes import Box
from ov3d_perception.types import Frame
from ov3d_perception.viz.palette import colour, colourise


def record(
    path: Path,
    scans: Sequence[LabelledScan],
    truth: Mapping[int, TrueScan],
    frames: Sequence[Frame],
    map_cloud: tuple[Float32[np.ndarray, "n 3"], Int32[np.ndarray, " n"]],
    boxes: Sequence[Box],
    names: Sequence[str],
) -> Path:
    """Write an .rrd (`rerun PATH` shows it). boxes are in ``map``, as is the map's cloud."""
    stream = rr.RecordingStream("ov3d_demo")
    stream.save(path)
    stream.log("map", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    xyz, labels = map_cloud
    stream.log("map/voxels", rr.Points3D(xyz, colors=colourise(labels, names), radii=0.08), static=True)
    stream.log("map/answers", _boxes(boxes), static=True)
    for scan in scans:
        if (true := truth.get(scan.stamp)) is None or len(true.labels) != len(scan.label):
            continue
        stream.set_time("stamp", timestamp=np.datetime64(scan.stamp, "ns"))
        stream.log("map/scan", rr.Points3D(true.xyz_map, colors=colourise(scan.label, names), radii=0.04))
    for frame in frames:
        for view in frame.views:
            stream.set_time("stamp", timestamp=np.datetime64(view.stamp, "ns"))
            stream.log(f"cameras/{view.camera.name}", rr.Image(view.image).compress(jpeg_quality=80))
    stream.disconnect()
    return path


def _boxes(boxes: Sequence[Box]) -> rr.Boxes3D:
    return rr.Boxes3D(
        centers=[box.centre for box in boxes],
        half_sizes=[box.size / 2 for box in boxes],
        rotations=[rr.RotationAxisAngle([0, 0, 1], radians=float(box.yaw)) for box in boxes],
        labels=[box.text or box.label for box in boxes],
        colors=[colour(box.label) for box in boxes],
    )
