"""A track of poses, and how far it drifts from a true one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from ov3d_perception.geometry.poses import interpolate, invert
from ov3d_perception.types import Poses, Stamps


@dataclass(frozen=True)
class Trajectory:
    """Poses of a LiDAR in the frame that it had at the first scan.

    stamps: ns, ascending; T_odom_lidar has a pose for each of them. frame_id: the LiDAR's frame. notes: what a person
    should know of it, a line each.
    """

    stamps: Stamps
    T_odom_lidar: Poses
    frame_id: str
    notes: tuple[str, ...] = ()

    @property
    def length_m(self) -> float:
        """Metres travelled."""
        return float(np.linalg.norm(np.diff(self.T_odom_lidar[:, :3, 3], axis=0), axis=1).sum())

    def __str__(self) -> str:
        seconds = (self.stamps[-1] - self.stamps[0]) * 1e-9
        lines = [f"{len(self.stamps)} poses of '{self.frame_id}', {seconds:.1f} s, {self.length_m:.1f} m"]
        return "\n".join([*lines, *self.notes])

    def reaching_back_to(self, stamp: int) -> Trajectory:
        """With one more pose at an earlier stamp (ns), by the motion between the first two; itself if it has one."""
        if stamp >= self.stamps[0] or len(self.stamps) < 2:
            return self
        fraction = float(stamp - self.stamps[0]) / float(self.stamps[1] - self.stamps[0])
        before = interpolate(self.T_odom_lidar[0], self.T_odom_lidar[1], fraction)
        stamps, poses = np.r_[stamp, self.stamps], np.concatenate([before[None], self.T_odom_lidar])
        return Trajectory(stamps, poses, self.frame_id, self.notes)


@dataclass(frozen=True)
class Drift:
    """Mean error of the motion over a number of scans. metres, degrees: its size; share: metres by metres travelled."""

    scans: int
    metres: float
    degrees: float
    share: float

    def __str__(self) -> str:
        return f"over {self.scans} scans {self.metres:.3f} m ({self.share:.1%} of the way), {self.degrees:.2f} degrees"


def drift(estimate: Poses, truth: Poses, scans: int) -> Drift:
    """The relative pose error (Geiger et al. 2012): the motion over ``scans`` scans against the true one, as a mean.

    Raises ValueError where there are not more poses than ``scans``.
    """
    if len(truth) <= scans or len(estimate) != len(truth):
        raise ValueError(f"{len(estimate)} poses against {len(truth)}: more than {scans} of each are needed")
    pairs = [(i, i + scans) for i in range(len(truth) - scans)]
    steps = [(_step(estimate, *pair), _step(truth, *pair)) for pair in pairs]
    errors = np.array([invert(true) @ estimated for estimated, true in steps])
    metres = np.linalg.norm(errors[:, :3, 3], axis=1)
    cosines = (np.trace(errors[:, :3, :3], axis1=1, axis2=2) - 1) / 2
    way = np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1)
    ways = np.array([way[first:last].sum() for first, last in pairs])
    degrees = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    return Drift(scans, float(metres.mean()), float(degrees.mean()), float(metres.sum() / max(ways.sum(), 1e-9)))


def _step(poses: Poses, first: int, last: int) -> Float64[np.ndarray, "4 4"]:
    return invert(poses[first]) @ poses[last]
