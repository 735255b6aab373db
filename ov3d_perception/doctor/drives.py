"""Frames of a data set, by drive, and where the LiDAR was between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ov3d_perception.errors import Ov3dError, TransformError
from ov3d_perception.geometry.poses import interpolate
from ov3d_perception.types import Frame, Pose, Poses, Stamps, Sweep

_BEYOND_NS = 200_000_000  # the next scan may be so far away, and a stamp outside of all scans half of that


@dataclass
class Drive:
    """Frames of one drive that were looked at, and the LiDAR's poses at their scans and at those beside them."""

    frames: list[Frame] = field(default_factory=list)
    track: dict[int, Pose] = field(default_factory=dict)

    @property
    def placed(self) -> bool:
        """Whether it is known where the LiDAR was: a data set without poses says the identity everywhere."""
        return any(not np.array_equal(T, np.eye(4)) for T in self.track.values())

    def pose_at(self, stamp: int) -> Pose:
        """T_world_lidar at a stamp (ns), between the two scans around it, or carried on from them.

        Raises TransformError where no two scans are near.
        """
        stamps = sorted(self.track)
        number = int(np.clip(np.searchsorted(stamps, stamp), 1, max(len(stamps) - 1, 1)))
        before, after = stamps[number - 1], stamps[min(number, len(stamps) - 1)]
        outside = max(before - stamp, stamp - after)
        if after == before or after - before > _BEYOND_NS or outside > _BEYOND_NS / 2:
            raise TransformError(f"No scans are near {stamp}", "Take more frames of the drive")
        return interpolate(self.track[before], self.track[after], (stamp - before) / (after - before))

    def poses_at(self, stamps: Stamps) -> Poses:
        """:meth:`pose_at` each stamp."""
        return np.array([self.pose_at(stamp) for stamp in stamps.tolist()])

    def add(self, sweep: Sweep) -> None:
        """A place of the LiDAR."""
        self.track[sweep.scan.stamp] = sweep.T_world_lidar


def drives_of(frames: Iterable[Frame]) -> dict[str, Drive]:
    """The frames by drive, each named ``drive/frame``; "" is the drive of a name without a slash."""
    found: dict[str, Drive] = {}
    for frame in frames:
        drive = found.setdefault(_drive(frame), Drive())
        drive.frames.append(frame)
        drive.add(frame.sweeps[0])
    return found


def look(source: Sequence[Frame], count: int) -> tuple[dict[str, Drive], list[str]]:
    """About ``count`` frames, evenly spread over a source, with the poses of the frames beside them; and why others
    could not be read."""
    problems: list[str] = []

    def read(index: int) -> Frame | None:
        try:
            return source[index]
        except Ov3dError as error:
            problems.append(str(error))
            return None

    chosen = np.unique(np.linspace(0, len(source) - 1, min(count, len(source))).astype(int)).tolist()
    found = drives_of(frame for frame in map(read, chosen) if frame is not None)
    for index in sorted({i + step for i in chosen for step in (-1, 1)} - set(chosen)):
        if 0 <= index < len(source) and (frame := read(index)) is not None and (drive := found.get(_drive(frame))):
            drive.add(frame.sweeps[0])
    return found, problems


def _drive(frame: Frame) -> str:
    return frame.name.rpartition("/")[0]
