"""Motion compensation: every point of a sweep as if it had been measured at the sweep's stamp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from ov3d_perception.geometry.poses import invert
from ov3d_perception.types import Poses, Scan, Stamps

KNOT_SPACING_S = 0.01


def deskew(scan: Scan, poses_at: Callable[[Stamps], Poses]) -> Scan:
    """The scan with all points moved into the sensor frame at ``scan.stamp``; ``time`` of the result is None.

    poses_at: T_world_lidar at stamps (ns). It is called once: for the scan's stamp and for a knot every 10 ms of the
    sweep. Points between two knots are blended linearly from what either knot says of them: at a turn of 1 rad/s that
    is within 1.3 mm at 100 m.

    Raises what ``poses_at`` raises, usually TransformError. A scan without times comes back as it is.
    """
    if scan.time is None or len(scan) == 0:
        return scan
    start, end = float(scan.time.min()), float(scan.time.max())
    knots = np.linspace(start, end, max(2, int(np.ceil((end - start) / KNOT_SPACING_S)) + 1))
    stamps = scan.stamp + np.concatenate([[0], np.rint(knots * 1e9).astype(np.int64)])
    T_world_stamp, *T_world_knot = poses_at(stamps)
    T_stamp_knot = invert(T_world_stamp) @ np.array(T_world_knot)
    position = (scan.time - start) * np.float32((len(knots) - 1) / max(end - start, 1e-9))
    return replace(scan, xyz=_blended(scan.xyz, position, T_stamp_knot.astype(np.float32)), time=None)


def _blended(
    xyz: Float32[np.ndarray, "n 3"], position: Float32[np.ndarray, " n"], knots: Float32[np.ndarray, "k 4 4"]
) -> Float32[np.ndarray, "n 3"]:
    """Each point by the matrix at its ``position`` among the knots (1.5: in the middle of the second and the third).

    Interval by interval, so that a matrix is a constant: half the time of one lookup a point. Most drivers send points
    in the order of their times; others are sorted first.
    """
    interval = np.clip(position.astype(np.int32), 0, len(knots) - 2)
    fraction, columns, order = position - interval.astype(np.float32), np.ascontiguousarray(xyz.T), None
    if (interval[1:] < interval[:-1]).any():
        order = np.argsort(interval.astype(np.uint16), kind="stable")  # of 16 bits: by radix
        fraction, columns, interval = fraction[order], columns[:, order], interval[order]
    bounds = np.searchsorted(interval, np.arange(len(knots)))
    moved = np.empty_like(columns)
    for number, (before, change) in enumerate(zip(knots[:-1], np.diff(knots, axis=0), strict=True)):
        part = slice(bounds[number], bounds[number + 1])
        x, y, z = columns[:, part]
        for axis in range(3):
            r = [before[axis, k] + fraction[part] * change[axis, k] for k in range(4)]
            moved[axis, part] = r[0] * x + r[1] * y + r[2] * z + r[3]
    result = np.empty_like(xyz)
    result[slice(None) if order is None else order] = moved.T
    return result
