"""How long association takes: 120k points in six cameras, beside a loop over cv2.projectPoints in the same run.

    python benchmarks/association.py [--points 120000] [--cameras 6] [--sweeps 1] [--repeats 50]

The cloud is a spinning sensor's, the cameras a ring of 70 degree pinholes. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

from ov3d_perception.geometry.association import associate
from ov3d_perception.geometry.occlusion import OcclusionTest
from ov3d_perception.geometry.poses import invert
from ov3d_perception.types import Camera, Frame, Scan, Sweep, View

DISTORTIONS = {
    "pinhole, no distortion": ("pinhole", []),
    "pinhole, plumb_bob": ("pinhole", [-0.3, 0.1, 1e-3, -1e-3, -0.02]),
    "pinhole, rational": ("pinhole", [0.5, 0.1, 1e-3, -1e-3, 0.01, 0.8, 0.2, 0.02]),
    "fisheye": ("fisheye", [-0.01, 0.005, -0.003, 0.0005]),
}


def ring_frame(points: int, cameras: int, sweeps: int, model: str, distortion: list[float]) -> Frame:
    """A cloud around the origin, cut into sweeps, and views at equal angles; 1600 x 900 pixels each."""
    rng = np.random.default_rng(0)
    azimuth, elevation = rng.uniform(-np.pi, np.pi, points), rng.uniform(np.radians(-25), np.radians(3), points)
    direction = np.stack(
        [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)], axis=1
    )
    xyz = (direction * rng.uniform(2, 60, (points, 1))).astype(np.float32)
    parts = np.array_split(xyz, sweeps)
    pieces = tuple(Sweep(Scan(part, np.zeros(len(part), np.float32)), np.eye(4)) for part in parts)
    K = np.array([[1140.0, 0, 800], [0, 1140, 450], [0, 0, 1]])
    views = tuple(
        View(
            Camera(str(i), 1600, 900, K, model, np.array(distortion)),
            _looking(2 * np.pi * i / cameras),
            np.zeros((1, 1, 3), np.uint8),
        )
        for i in range(cameras)
    )
    return Frame("ring", pieces, views)


def _looking(yaw: float) -> np.ndarray:
    T = np.eye(4)
    c, s = np.cos(yaw), np.sin(yaw)
    T[:3, :3] = np.array([[s, 0, c], [-c, 0, s], [0, -1, 0]])
    T[:3, 3] = 1.5 * c, 1.5 * s, -0.3
    return T


def with_opencv(frame: Frame) -> int:
    """The straightforward way: project everything in front of each camera, then test the image bounds."""
    xyz = np.concatenate([sweep.scan.xyz for sweep in frame.sweeps])
    count = 0
    for view in frame.views:
        T, camera = invert(view.T_world_camera), view.camera
        inside = xyz[(xyz @ T[2, :3].astype(np.float32) + np.float32(T[2, 3])) > 1]
        rvec = cv2.Rodrigues(T[:3, :3])[0]
        if camera.model == "fisheye":
            uv = cv2.fisheye.projectPoints(
                inside[:, None].astype(np.float64), rvec, T[:3, 3], camera.K, camera.distortion
            )[0][:, 0]
        else:
            uv = cv2.projectPoints(inside, rvec, T[:3, 3], camera.K, camera.distortion)[0][:, 0]
        count += int(((uv >= 0) & (uv < [camera.width, camera.height])).all(axis=1).sum())
    return count


def milliseconds(work: Callable[[], object], repeats: int) -> np.ndarray:
    """Times of ``repeats`` calls after five to warm up."""
    times = []
    for _ in range(repeats + 5):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return np.array(times[5:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("points", 120_000), ("cameras", 6), ("sweeps", 1), ("repeats", 50)):
        parser.add_argument(f"--{option}", type=int, default=default)
    options = parser.parse_args()
    print(
        f"{options.points} points, {options.cameras} cameras, {options.sweeps} sweeps, {options.repeats} repeats; "
        "ms: median (10 % .. 90 %), best"
    )
    for name, (model, distortion) in DISTORTIONS.items():
        frame = ring_frame(options.points, options.cameras, options.sweeps, model, distortion)
        reference = milliseconds(partial(with_opencv, frame), max(5, options.repeats // 5))
        rows = {
            "associate": milliseconds(partial(associate, frame), options.repeats),
            "  with occlusion test": milliseconds(
                partial(associate, frame, occlusion=OcclusionTest()), options.repeats
            ),
        }
        print(
            f"{name}: {len(associate(frame))} pairs; cv2 loop {np.median(reference):.1f} ms, {with_opencv(frame)} pairs"
        )
        for label, times in rows.items():
            low, high = np.percentile(times, [10, 90])
            print(
                f"  {label:<24} {np.median(times):6.2f} ({low:.2f} .. {high:.2f}), {times.min():.2f}; "
                f"{np.median(reference) / np.median(times):5.1f} times as fast as the cv2 loop"
            )


if __name__ == "__main__":
    main()
