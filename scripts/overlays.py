"""Pictures that show whether calibration, poses and association fit: LiDAR points over the cameras of real recordings.

    python scripts/overlays.py [--data ../shared/data] [--out out/overlays]

Writes, for each recording found (nuScenes key frame, SemanticKITTI, PandaSet): points coloured by depth (do the steps
in depth lie on the edges in the image?), by class, the points that the occlusion test drops, and a view from above.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import cv2
import numpy as np

from ov3d_perception.datasets.nuscenes_keyframe import NuScenesKeyframe
from ov3d_perception.datasets.pandaset import PandaSet
from ov3d_perception.datasets.semantickitti import SemanticKitti
from ov3d_perception.datasets.source import FrameSource
from ov3d_perception.errors import DatasetError
from ov3d_perception.geometry.association import associate
from ov3d_perception.geometry.occlusion import OcclusionTest
from ov3d_perception.types import UNLABELLED, Frame, PixelPointPairs
from ov3d_perception.viz.bev import Annotations, bird_eye
from ov3d_perception.viz.canvas import save
from ov3d_perception.viz.overlay import class_overlay, draw_points

NUSCENES_ORDER = ("cam_front_left", "cam_front", "cam_front_right", "cam_back_left", "cam_back", "cam_back_right")
WIDEST = 2400


def of_camera(pairs: PixelPointPairs, camera: int) -> PixelPointPairs:
    """The pairs of one view, with points of the key sweep only."""
    rows = (pairs.camera == camera) & (pairs.sweep == 0)
    return PixelPointPairs(pairs.point[rows], pairs.sweep[rows], pairs.camera[rows], pairs.uv[rows], pairs.depth[rows])


def at_most(image: np.ndarray, width: int) -> np.ndarray:
    """The image, made smaller if it is wider than that."""
    if image.shape[1] <= width:
        return image
    height = round(image.shape[0] * width / image.shape[1])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def depth_overlay(image: np.ndarray, uv: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """The image with points coloured by inverse depth: near is red, far is blue. Shows how well a calibration fits."""
    if len(depth) == 0:
        return image.copy()
    inverse = 1 / depth
    low, high = np.percentile(inverse, [2, 98])
    scaled = np.clip((inverse - low) / max(high - low, 1e-6), 0, 1)
    rgb = cv2.applyColorMap((255 * np.sqrt(scaled)).astype(np.uint8)[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1]
    return draw_points(image, uv, rgb, depth, max(1.2, image.shape[1] / 900), dim=0.15)


def pictures(frame: Frame, names: tuple[str, ...], occlusion: OcclusionTest, view: int) -> dict[str, np.ndarray]:
    """By depth, by class, and what is hidden, for one view of a frame."""
    image, labels = frame.views[view].image, frame.labels
    assert labels is not None
    pairs, kept = of_camera(associate(frame), view), of_camera(associate(frame, occlusion=occlusion), view)
    hidden = ~np.isin(pairs.point, kept.point)
    print(f"  {frame.name} {frame.views[view].camera.name}: {len(pairs)} points, {hidden.sum()} of them hidden")
    mark = np.where(hidden, 1, 0).astype(np.int32)
    return {
        "depth": depth_overlay(image, pairs.uv, pairs.depth),
        "class": class_overlay(image, pairs.uv, labels[pairs.point], names, depth=pairs.depth),
        "hidden": class_overlay(image, pairs.uv[mark > 0], mark[mark > 0], ("", "pedestrian"), with_legend=False),
    }


def write(source: FrameSource, indices: list[int], out: Path, occlusion: OcclusionTest) -> None:
    """The pictures of some frames, and each frame from above."""
    assert source.labelset is not None
    names = source.labelset.names
    for index in indices:
        frame = source[index]
        stem = frame.name.replace("/", "_")
        views = list(range(len(frame.views)))
        if len(frame.views) == 6:
            views = sorted(views, key=lambda i: NUSCENES_ORDER.index(frame.views[i].camera.name))
        each = [pictures(frame, names, occlusion, view) for view in views]
        for kind in each[0]:
            images = [entry[kind] for entry in each]
            rows = [np.hstack(images[i : i + 3]) for i in range(0, len(images), 3)]
            save(out / f"{stem}_{kind}.png", at_most(np.vstack(rows), WIDEST))
        assert frame.labels is not None
        known = frame.labels != UNLABELLED
        boxes = source.boxes(index) if isinstance(source, NuScenesKeyframe) else []
        notes = Annotations(boxes=boxes, ego=np.eye(4), title=frame.name, subtitle=f"{known.mean():.0%} labelled")
        save(out / f"{stem}_above.png", bird_eye(frame.sweeps[0].scan.xyz, frame.labels, names, notes=notes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("OV3D_TEST_DATA", "../shared/data")))
    parser.add_argument("--out", type=Path, default=Path("out/overlays"))
    options = parser.parse_args()
    if not options.data.is_dir():
        parser.error("no recordings found; name their folder with --data or $OV3D_TEST_DATA")
    sources = {
        "nuscenes_keyframe": (lambda root: NuScenesKeyframe(root), [0], OcclusionTest(radius_px=(6, 15))),
        "semantickitti": (
            lambda root: SemanticKitti(root, labelset="semantickitti_coarse9"),
            [0, 38],
            OcclusionTest(radius_px=(3, 4)),
        ),
        "pandaset": (lambda root: PandaSet(root), [0, 5], OcclusionTest(radius_px=(6, 6))),
    }
    for name, (build, indices, occlusion) in sources.items():
        print(name)
        try:
            write(build(options.data / name), indices, options.out / name, occlusion)
        except DatasetError as error:
            print(f"  left out: {error}")
    print(f"pictures are in {options.out}")


if __name__ == "__main__":
    main()
