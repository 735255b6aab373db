"""Which of the points that project into an image are hidden: by a depth buffer of the points, or by measured depth."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32

from ov3d_perception.types import Camera


@dataclass(frozen=True)
class OcclusionTest:
    """A depth buffer in which every point covers ``radius_px`` around it, so that a sparse surface hides.

    A point p is hidden if some point q in reach of it is nearer by more than a surface through both would explain.
    Inverse depth is linear in the image along any plane, and changes by at most 1 / (f c) per pixel along a plane that
    passes the camera at distance c. With rho the reach in pixels, p is hidden if

        1/d_q - 1/d_p > rho / (f c) + relative_tolerance / d_p

    so that the ground, however obliquely seen, does not hide itself, at any distance.

    resolution_px: side of a cell of the buffer. radius_px: reach (horizontal, vertical) over the gaps between beams;
    for a beam spacing of a radians about f * a / 2 (64 beams: 5, 32 beams: 15). relative_tolerance: depth noise, as a
    part of the depth. surface_clearance: c, metres.

    measured_tolerance: where the view has measured depth, a point is seen if its depth is that of its pixel but for
    this part of it (OpenScene's test; it allows 0.25 in ScanNet, more than stands between many a thing and its wall).
    """

    resolution_px: int = 4
    radius_px: tuple[float, float] = (6.0, 6.0)
    relative_tolerance: float = 0.03
    surface_clearance: float = 1.2
    measured_tolerance: float = 0.05

    def visible(
        self,
        camera: Camera,
        uv: Float32[np.ndarray, "n 2"],
        depth: Float32[np.ndarray, " n"],
    ) -> Bool[np.ndarray, " n"]:
        """True for each point that no other one hides; uv inside the image, depth > 0 in metres."""
        cells = (uv / self.resolution_px).astype(np.int32)
        columns, rows = (-(-side // self.resolution_px) for side in (camera.width, camera.height))
        cell = np.clip(cells[:, 1], 0, rows - 1) * columns + np.clip(cells[:, 0], 0, columns - 1)
        inverse = 1 / depth
        buffer = np.zeros(rows * columns, np.float32)  # the nearest point's inverse depth; 0 is infinitely far
        np.maximum.at(buffer, cell, inverse)
        reach_u, reach_v = (int(np.ceil(radius / self.resolution_px)) for radius in self.radius_px)
        kernel = np.ones((2 * reach_v + 1, 2 * reach_u + 1), np.uint8)
        nearest = cv2.dilate(buffer.reshape(rows, columns), kernel).ravel()[cell]
        rho = np.hypot(reach_u + 1, reach_v + 1) * self.resolution_px
        slope = rho / (camera.K[0, 0] * self.surface_clearance)
        return nearest - inverse <= slope + self.relative_tolerance * inverse

    def agrees(
        self,
        camera: Camera,
        measured: Float32[np.ndarray, "h w"],
        uv: Float32[np.ndarray, "n 2"],
        depth: Float32[np.ndarray, " n"],
    ) -> Bool[np.ndarray, " n"]:
        """True for each point that lies where the image's measured depth says; False where none was measured."""
        scale = np.array([measured.shape[1] / camera.width, measured.shape[0] / camera.height])
        column, row = np.rint((uv + 0.5) * scale - 0.5).astype(np.int64).T
        there = measured[np.clip(row, 0, measured.shape[0] - 1), np.clip(column, 0, measured.shape[1] - 1)]
        return (there > 0) & (np.abs(depth - there) <= self.measured_tolerance * there)
