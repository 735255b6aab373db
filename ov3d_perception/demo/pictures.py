"""The demo's pictures: a labelled scan from above, the map with answers, the scan over the camera images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, Int8, Int32, UInt8

from ov3d_perception.demo.score import LabelledScan
from ov3d_perception.demo.truth import TrueScan
from ov3d_perception.geometry.association import associate
from ov3d_perception.geometry.boxes import Box
from ov3d_perception.mapping.navigation.costmap import Layout
from ov3d_perception.types import Frame, Pose
from ov3d_perception.viz.bev import Annotations, Canvas, bird_eye, fit
from ov3d_perception.viz.canvas import save
from ov3d_perception.viz.costs import draw_grid
from ov3d_perception.viz.overlay import class_overlay
from ov3d_perception.viz.palette import colourise

FRONT = ("cam_front_left", "cam_front", "cam_front_right")


def draw_scan(path: Path, scan: LabelledScan, truth: TrueScan, names: Sequence[str], subtitle: str) -> Path:
    """The scan as the node labelled it, beside its ground truth; both in the map's orientation."""
    canvas = Canvas(900, 900, (float(truth.T_map_lidar[0, 3]), float(truth.T_map_lidar[1, 3])), 900 / 80)
    panels = []
    answer = ("Labelled live, from LiDAR alone", subtitle, scan.label)
    for title, below, labels in (answer, ("Ground truth", "", truth.labels)):
        notes = Annotations(ego=truth.T_map_lidar, title=title, subtitle=below)
        panels.append(bird_eye(truth.xyz_map, labels, names, canvas=canvas, notes=notes))
    return save(path, np.hstack(panels))


def draw_map(
    path: Path,
    xyz: Float32[np.ndarray, "n 3"],
    labels: Int32[np.ndarray, " n"],
    names: Sequence[str],
    boxes: Sequence[Box],
    poses: Sequence[np.ndarray],
    subtitle: str,
) -> Path:
    """The semantic map from above with the boxes that answered, and the path driven; ``subtitle`` is its text, too."""
    around = fit(xyz)
    notes = Annotations(
        boxes=boxes,
        ego=poses[-1],
        path=np.array([pose[:2, 3] for pose in poses]),
        title="Semantic map, asked in words",
        subtitle=subtitle,
    )
    return save(path, bird_eye(xyz, labels, names, canvas=around, point_size=0.2, notes=notes), subtitle)


def draw_mask(
    path: Path, layout: Layout, values: Int8[np.ndarray, "h w"], poses: Sequence[np.ndarray], costs: Mapping[str, int]
) -> Path:
    """The costmap filter's mask from above, and the path driven."""
    rows, columns = np.nonzero(values >= 0)
    known = layout.centres(rows * layout.width + columns).astype(np.float32)
    notes = Annotations(
        ego=poses[-1],
        path=np.array([pose[:2, 3] for pose in poses]),
        title="Costmap filter for Nav2",
        subtitle=f"{layout.width} x {layout.height} cells of {layout.resolution:.1f} m",
    )
    meaning = {"free ground": 0, **{f"{word}: {cost}": cost for word, cost in costs.items()}}
    picture = draw_grid(values, layout.origin, layout.resolution, fit(known), notes, meaning)
    return save(path, picture)


def draw_approach(
    path: Path,
    xyz: Float32[np.ndarray, "n 3"],
    labels: Int32[np.ndarray, " n"],
    names: Sequence[str],
    pose: Pose,
    box: Box,
    subtitle: str,
) -> Path:
    """The map around an approach pose (an arrowhead of 1.2 m), and the box it faces."""
    canvas = Canvas(900, 900, (float(pose[0, 3]), float(pose[1, 3])), 900 / 24)
    notes = Annotations(boxes=(box,), ego=pose, ego_length=1.2, title="Where to stand", subtitle=subtitle)
    faint = colourise(labels, names) // 2
    return save(path, bird_eye(xyz, labels, names, canvas=canvas, point_size=0.27, rgb=faint, notes=notes))


def draw_overlay(path: Path, frame: Frame, label: Int32[np.ndarray, " n"], names: Sequence[str]) -> Path:
    """Labels of a frame's key sweep over its forward camera images, side by side (all images if none is forward)."""
    pairs = associate(frame)
    cameras, panels = _order(frame), []
    for camera in cameras:
        mine = pairs.camera == camera
        options = {"depth": pairs.depth[mine], "radius": 1.6, "with_legend": camera == cameras[-1]}
        image = frame.views[camera].image
        panels.append(class_overlay(image, pairs.uv[mine], label[pairs.point[mine]], names, **options))
    return save(path, _side_by_side(panels))


def nearest_frame(frames: Sequence[Frame], stamp: int) -> Frame:
    """The frame whose key sweep was taken closest to ``stamp``."""
    return min(frames, key=lambda frame: abs(frame.sweeps[0].scan.stamp - stamp))


def _order(frame: Frame) -> list[int]:
    by_name = {view.camera.name: index for index, view in enumerate(frame.views)}
    front = [by_name[name] for name in FRONT if name in by_name]
    return front or list(range(len(frame.views)))


def _side_by_side(panels: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> UInt8[np.ndarray, "h w 3"]:
    height = min(panel.shape[0] for panel in panels)
    scaled = [
        cv2.resize(p, (round(p.shape[1] * height / p.shape[0]), height), interpolation=cv2.INTER_AREA) for p in panels
    ]
    return np.hstack(scaled)
