"""TF: frames that do not connect, gaps, two parents, and a robot that jumps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from ov3d_perception.bags.streams import Stream
from ov3d_perception.doctor.report import Finding, Severity
from ov3d_perception.geometry.poses import invert
from ov3d_perception.geometry.transform_tree import GAP_REMEDY, PARENTS_REMEDY, TransformTree

_TOLERANCE_NS = 50_000_000
_FAST_M_S, _FAST_DEG_S = 60.0, 360.0  # no robot with a camera is faster
_JUMP_M, _JUMP_DEG = 0.3, 5.0  # beyond the motion of the steps around it
_NONE = "Without poses scans cannot be de-skewed, nor merged, nor voted over time"


def check(tree: TransformTree, cloud: Stream, frame: str, fixed_frame: str) -> Iterator[Finding]:
    """frame: of the clouds."""
    for fault in tree.skipped:
        yield Finding(
            Severity.WARNING, "transforms", frame, fault, "tf2 ignores them, too", "Look at the node that sends them"
        )
    for fault in tree.parent_faults:
        yield Finding(Severity.ERROR, "transforms", frame, fault, "Poses jump between two trees", PARENTS_REMEDY)
    for fault in tree.gaps:
        yield Finding(Severity.WARNING, "transforms", frame, fault, "Scans of that time have no pose", GAP_REMEDY)
    if not frame.strip("/"):
        yield Finding(
            Severity.ERROR, "transforms", "clouds", "the clouds have no frame_id", _NONE,
            "Set it in the LiDAR's driver",
        )  # fmt: skip
    elif fixed_frame not in tree.frames or frame.lstrip("/") not in tree.frames:
        lacking = fixed_frame if fixed_frame not in tree.frames else frame
        yield Finding(
            Severity.WARNING, "odometry", frame, f"TF lacks the frame '{lacking}': the scans have no poses", _NONE,
            "Record /tf with odometry, name the frame that moves (--fixed-frame), or compute poses: ov3d bag odometry",
        )  # fmt: skip
    else:
        yield from _track(tree, cloud, frame, fixed_frame)


def _track(tree: TransformTree, cloud: Stream, frame: str, fixed_frame: str) -> Iterator[Finding]:
    known, poses, problems = tree.lookup_known(fixed_frame, frame, cloud.stamps, _TOLERANCE_NS)
    stamps = cloud.stamps[known]
    if not len(stamps):
        yield Finding(
            Severity.WARNING, "odometry", frame, f"no scan has a pose in '{fixed_frame}': {problems[0]}", _NONE,
            "Record /tf with odometry, or compute poses: ov3d bag odometry",
        )  # fmt: skip
        return
    if len(problems) > 0.05 * len(cloud.stamps):
        yield Finding(
            Severity.WARNING, "odometry", frame,
            f"{len(problems)} of {len(cloud.stamps)} scans have no pose: {problems[0]}",
            "They are left out", "Record /tf from before the first scan to after the last, at 10 Hz or more",
        )  # fmt: skip
    if len(stamps) < 3:
        return
    seconds = np.maximum(np.diff(stamps) * 1e-9, 1e-3)
    steps = np.array([invert(before) @ after for before, after in pairwise(poses)])
    metres = np.linalg.norm(steps[:, :3, 3], axis=1)
    degrees = np.degrees(np.arccos(np.clip((np.trace(steps[:, :3, :3], axis1=1, axis2=2) - 1) / 2, -1, 1)))
    jumps = _jumps(metres, seconds, _JUMP_M, _FAST_M_S) | _jumps(degrees, seconds, _JUMP_DEG, _FAST_DEG_S)
    if jumps.any():
        first = int(np.flatnonzero(jumps)[0])
        yield Finding(
            Severity.WARNING, "jumps", frame,
            f"the pose jumps {int(jumps.sum())} times in '{fixed_frame}', first at {stamps[first] * 1e-9:.3f} s by "
            f"{metres[first]:.2f} m and {degrees[first]:.1f} degrees",
            "Merged sweeps and votes over time mix two places",
            "Use a frame that is continuous (odom, not map: REP 105), or cut the bag there",
            {"jumps": int(jumps.sum())},
        )  # fmt: skip
    else:
        way = f"{metres.sum():.1f} m in '{fixed_frame}', {metres.max() / np.median(seconds):.1f} m/s at most, no jump"
        yield Finding(Severity.GOOD, "odometry", frame, way, figures={"metres": float(metres.sum())})


def _jumps(sizes: np.ndarray, seconds: np.ndarray, least: float, fastest: float) -> np.ndarray:
    """Steps faster than anything, or much longer than both their neighbours at their own speeds."""
    rate = sizes / seconds
    before, after = np.append(rate[1], rate[:-1]), np.append(rate[1:], rate[-2])
    usual = np.maximum(before, after)
    return (rate > fastest) | ((sizes > least + 2 * usual * seconds) & (rate > 4 * usual))
