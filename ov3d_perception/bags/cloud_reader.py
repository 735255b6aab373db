"""The clouds of one topic, read alike: what the first ones decide (scale of the intensity, unit of the times) holds on.

One cloud alone can mislead: a few points in a burst have times of another unit, a dark place intensities of another
scale.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from statistics import median
from typing import Any

from ov3d_perception.bags.pointcloud2 import MAX_RANGE, SECOND, Cloud, read
from ov3d_perception.geometry.scan_time import PointTimes

_ENOUGH_POINTS = 100
_MUCH_CLIPPED = 0.05


def faults(cloud: Cloud) -> dict[str, str]:
    """What a person should know of a cloud that was read, by kind; empty for a good one."""
    found = {}
    if cloud.times is not None and cloud.times.problem:
        use = "are not used" if cloud.times.seconds is None else "are used"
        found["times"] = f"The point times in '{cloud.time_field}' {use}: {cloud.times.problem}"
    if cloud.unread_time:
        found["times"] = (
            f"Field '{cloud.unread_time}' may hold point times, but is not read: points are not de-skewed. Name it "
            "timestamp, and send one number a point"
        )
    if cloud.times is not None and cloud.times.strays:
        found["stray times"] = f"{cloud.times.strays} of {len(cloud.scan)} points have a time outside the scan"
    if cloud.far:
        found["far points"] = f"{cloud.far} points lie beyond {MAX_RANGE:.0f} m and are dropped"
    if cloud.row_step:
        found["row_step"] = cloud.row_step
    if cloud.byte_order:
        found["byte order"] = cloud.byte_order
    if cloud.intensity is not None and cloud.intensity.clipped > _MUCH_CLIPPED:
        found["intensity"] = f"Intensity from {cloud.intensity}: set intensity_scale"
    return found


def describe(cloud: Cloud) -> str:
    """One line: what a cloud holds, and what was decided about its times and its intensity."""
    times = "no time field" if cloud.times is None else f"{cloud.time_field}: {cloud.times}"
    intensity = "no intensity, zeros are used" if cloud.intensity is None else str(cloud.intensity)
    return f"{len(cloud.scan)} points in frame '{cloud.scan.frame_id}'; {times}; {intensity}"


class CloudReader:
    """Reads the clouds of one topic in the order they come.

    intensity_scale, time_unit, time_offset: as :func:`pointcloud2.read` has them; None and "auto" decide on the first
    ``learn`` clouds. period: seconds from scan to scan; None measures it by their stamps.
    """

    def __init__(
        self,
        intensity_scale: float | None = None,
        time_unit: str = "auto",
        time_offset: float = 0.0,
        period: float | None = None,
        learn: int = 10,
    ) -> None:
        self._scale, self._unit, self._offset, self._period = intensity_scale, time_unit, time_offset, period
        self._learn = learn
        self._scales: list[float] = []
        self._units: list[str] = []
        self._stamps: deque[int] = deque(maxlen=8)

    @property
    def period(self) -> float | None:
        """Seconds from scan to scan: given, or the median of the last few; None before there are two."""
        if self._period is not None:
            return self._period
        stamps = list(self._stamps)
        steps = [after - before for before, after in pairwise(stamps) if after > before]
        return median(steps) / SECOND if steps else None

    def read(self, message: Any) -> Cloud:
        """The next cloud; raises PointCloudError as :func:`pointcloud2.read` does."""
        cloud = read(
            message,
            intensity_scale=self._scale_in_force(),
            time_unit=self._unit_in_force(few=message.height * message.width < _ENOUGH_POINTS),
            time_offset=self._offset,
            period=self.period,
        )
        self._stamps.append(cloud.scan.stamp)
        if self._scale is None and cloud.intensity is not None and len(self._scales) < self._learn:
            self._scales.append(cloud.intensity.scale)
        if self._unit == "auto" and cloud.times is not None:
            self._remember(cloud.times, len(cloud.scan))
        return cloud

    def _scale_in_force(self) -> float | None:
        if self._scale is not None or len(self._scales) < self._learn:
            return self._scale
        return median(self._scales)

    def _unit_in_force(self, few: bool) -> str:
        if self._unit != "auto" or not self._units or not (few or len(self._units) >= self._learn):
            return self._unit
        return max(self._units, key=self._units.count)

    def _remember(self, times: PointTimes, points: int) -> None:
        if times.seconds is None and times.unit:  # the unit may be wrong: decide anew
            self._units.clear()
        elif times.unit and points >= _ENOUGH_POINTS and len(self._units) < self._learn:
            self._units.append(times.unit)
