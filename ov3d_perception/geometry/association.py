"""Which pixel of which camera sees which point: K sweeps into N cameras, each view at its own stamp.

Every (sweep, view) pair gets its own transform from ``Sweep.T_world_lidar`` and ``View.T_world_camera``, so that ego
motion between a sweep and an exposure is accounted for. Points are culled by linear inequalities first (one matrix
product), and only the survivors go through the lens model: that is what makes it fast.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from ov3d_perception.geometry.cameras import distort, field_limit, fisheye_radius, project_axes, tilt_matrix
from ov3d_perception.geometry.occlusion import OcclusionTest
from ov3d_perception.geometry.poses import invert
from ov3d_perception.types import Camera, Frame, PixelPointPairs, Pose, View

_CHUNK = 32768  # points whose culling rows stay in the CPU's cache

Columns = tuple[Int64[np.ndarray, " m"], Int32[np.ndarray, " m"], Float32[np.ndarray, "m 2"], Float32[np.ndarray, " m"]]


@dataclass(frozen=True)
class Limits:
    """What counts as in view: border <= u < width - border (v alike), and depth between min and max metres.

    That is the convention of the KITTI, nuScenes and OpenScene tools; ``uv.astype(int)`` always indexes the image.
    """

    min_depth: float = 1.0
    max_depth: float = np.inf
    border: float = 0.0


def associate(
    frame: Frame,
    *,
    min_depth: float = 1.0,
    max_depth: float = np.inf,
    border: float = 0.0,
    occlusion: OcclusionTest | None = None,
) -> PixelPointPairs:
    """All pixel-point pairs of a frame, sorted by (camera, point).

    min_depth, max_depth: metres, exclusive, along the optical axis (along the ray for a fisheye, as is the depth that
    is returned). border: pixels left out along each image edge (see :class:`Limits`). occlusion: drops points hidden
    behind nearer points of the same view, or that are not where the view's measured depth is; None, as in the LiDAR
    papers, lets every point through.

    A point's index counts through all sweeps in their order. Cameras must be valid (see ``validate_camera``).
    """
    clouds = [(sweep.scan.xyz, sweep.T_world_lidar) for sweep in frame.sweeps]
    return _associate(clouds, frame.views, Limits(min_depth, max_depth, border), occlusion)


def _associate(
    clouds: Sequence[tuple[Float32[np.ndarray, "_ 3"], Pose]],
    views: Sequence[View],
    limits: Limits,
    occlusion: OcclusionTest | None,
) -> PixelPointPairs:
    axes = [np.ascontiguousarray(xyz.T, np.float32) for xyz, _ in clouds]
    poses = [T for _, T in clouds]
    parts = list(_pool(os.getpid()).map(lambda view: _one_view(axes, poses, view, limits, occlusion), views))
    counts = [len(part[0]) for part in parts]
    if not parts:
        parts = [_nothing()]
    point, sweep, uv, depth = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    camera = np.repeat(np.arange(len(views), dtype=np.int32), counts)
    return PixelPointPairs(point, sweep, camera, uv, depth)


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Two threads, since numpy computes outside Python's lock; new ones in each forked process, which inherits none."""
    return ThreadPoolExecutor(max_workers=2, thread_name_prefix=f"association-{process}")


def _one_view(
    axes: list[Float32[np.ndarray, "3 _"]],
    poses: list[Pose],
    view: View,
    limits: Limits,
    occlusion: OcclusionTest | None,
) -> Columns:
    """Point, sweep, uv and depth of what one view sees."""
    cull = culling_rows(view.camera, limits)
    parts, offset = [], 0
    for index, (xyz, T_world_lidar) in enumerate(zip(axes, poses, strict=True)):
        T_camera_lidar = invert(view.T_world_camera) @ T_world_lidar
        rows = _candidates(xyz, cull, T_camera_lidar)
        R, t = T_camera_lidar[:3, :3].astype(np.float32), T_camera_lidar[:3, 3].astype(np.float32)
        rows, uv, depth = _visible(view.camera, R @ xyz[:, rows] + t[:, None], rows, limits)
        parts.append((rows + offset, np.full(len(rows), index, np.int32), uv, depth))
        offset += xyz.shape[1]
    point, sweep, uv, depth = (np.concatenate(columns) for columns in zip(*parts or [_nothing()], strict=True))
    if occlusion is not None:
        if view.depth is None:
            keep = occlusion.visible(view.camera, uv, depth)
        else:
            keep = occlusion.agrees(view.camera, view.depth, uv, depth)
        point, sweep, uv, depth = point[keep], sweep[keep], uv[keep], depth[keep]
    return point, sweep, uv, depth


def _nothing() -> Columns:
    return (np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros((0, 2), np.float32), np.zeros(0, np.float32))


def _candidates(xyz: Float32[np.ndarray, "3 n"], cull: Float64[np.ndarray, "r 4"], T: Pose) -> Int64[np.ndarray, " m"]:
    """Rows of points that satisfy ``cull @ [p_camera, 1] >= 0`` in all rows."""
    inequalities = (cull @ T).astype(np.float32)
    found = []
    for start in range(0, xyz.shape[1], _CHUNK):
        values = inequalities[:, :3] @ xyz[:, start : start + _CHUNK]
        inside = values[0] >= -inequalities[0, 3]
        for value, constant in zip(values[1:], inequalities[1:, 3], strict=True):
            inside &= value >= -constant
        found.append(np.flatnonzero(inside) + start)
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _visible(
    camera: Camera, xyz_cam: Float32[np.ndarray, "3 n"], rows: Int64[np.ndarray, " n"], limits: Limits
) -> tuple[Int64[np.ndarray, " m"], Float32[np.ndarray, "m 2"], Float32[np.ndarray, " m"]]:
    u, v, depth, seen = project_axes(camera, *xyz_cam)
    seen &= (depth > limits.min_depth) & (depth < limits.max_depth)
    seen &= (u >= limits.border) & (u < camera.width - limits.border)
    seen &= (v >= limits.border) & (v < camera.height - limits.border)
    kept = np.flatnonzero(seen)
    return rows[kept], np.stack([u[kept], v[kept]], axis=1), depth[kept]


def culling_rows(camera: Camera, limits: Limits) -> Float64[np.ndarray, "r 4"]:
    """Inequalities ``row @ [x, y, z, 1] >= 0`` in the camera frame that hold for every point in view.

    They may let others through; a fisheye that sees sideways gets none that bind.
    """
    low, high = normalised_bounds(camera, limits.border)
    if not np.isfinite(high).all():
        return np.array([[0.0, 0.0, 0.0, 1.0]])
    near = [[0, 0, 1, -limits.min_depth]] if camera.model == "pinhole" else [[0, 0, 1, 0]]
    sides = [[1, 0, -low[0], 0], [-1, 0, high[0], 0], [0, 1, -low[1], 0], [0, -1, high[1], 0]]
    return np.array(near + sides, np.float64)


def normalised_bounds(camera: Camera, border: float) -> tuple[Float64[np.ndarray, " 2"], Float64[np.ndarray, " 2"]]:
    """A box of (x/z, y/z) that holds everything in the image: exact without distortion, else from the image radius."""
    focal, centre = camera.K[[0, 1], [0, 1]], camera.K[:2, 2]
    size = np.array([camera.width, camera.height])
    low, high = (border - 1 - centre) / focal, (size - border - centre) / focal  # a pixel of slack for rounding
    if camera.model == "pinhole" and not camera.distortion.any():
        return low, high
    corners = np.array([[u, v, 1] for u in (low[0], high[0]) for v in (low[1], high[1])])
    if camera.model == "pinhole":
        corners = corners @ np.linalg.inv(tilt_matrix(camera)).T
    corner = float(np.linalg.norm(corners[:, :2] / corners[:, 2:], axis=1).max())
    radius = _widest(camera.model, tuple(camera.distortion.tolist()), corner)
    return np.full(2, -radius), np.full(2, radius)


@lru_cache(maxsize=64)
def _widest(model: str, distortion: tuple[float, ...], reach: float) -> float:
    """The largest x/z that a lens can bring within ``reach`` focal lengths of the centre, inf if beyond 85 deg."""
    lens = Camera("lens", 1, 1, np.eye(3), model, np.array(distortion))
    if model == "fisheye":
        angles = np.linspace(0, field_limit(lens), 2000)
        widest = _last_within(angles, fisheye_radius(lens, angles), reach)
        return float(np.tan(widest)) if widest < np.radians(85) else np.inf
    radii = np.linspace(0, min(field_limit(lens), 20.0), 2000)
    _, _, p1, p2, *_, s1, s2, s3, s4 = np.pad(lens.distortion, (0, 14 - len(lens.distortion)))[:12]
    aside = 3 * (abs(p1) + abs(p2)) * radii**2  # tangential and thin-prism terms move a point by at most this
    aside += (abs(s1) + abs(s3)) * radii**2 + (abs(s2) + abs(s4)) * radii**4
    radial = replace(lens, distortion=np.array([*lens.distortion[:2], 0, 0, *lens.distortion[4:8]]))
    return _last_within(radii, distort(radial, radii, 0 * radii)[0] - aside, reach)


def _last_within(values: np.ndarray, images: np.ndarray, reach: float) -> float:
    """The largest of ``values`` whose image is within reach, one step on."""
    last = int(np.flatnonzero(images <= reach)[-1])
    return float(values[min(last + 1, len(values) - 1)])
