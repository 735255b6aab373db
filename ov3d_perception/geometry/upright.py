"""Clouds turned upright: a network trained on level LiDARs sees one that hangs, leans or has optical axes as level.

A scan stays in its sensor's frame and carries the rotation (:attr:`Scan.R_upright`); what is fed to a network is
turned by :func:`upright_points`, and what the network says of places is turned back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float32, Float64
from scipy.spatial.transform import Rotation

from ov3d_perception.errors import TransformError
from ov3d_perception.types import Pose, Scan

_FOOTPRINT = "base_footprint"
LEVEL_DEG = 0.5  # a smaller tilt moves a point at 50 m by less than half a metre; such a cloud stays as it came


Lookup = Callable[[str, str, int], Pose]  # T_target_source at a stamp (ns); TransformError where TF has none

MODES = ("auto", "base", "imu", "off")
"""Where up comes from. base: TF to a base frame with z up; imu: gravity; auto: the first of these that there is."""


def tilt_deg(R_up_sensor: Float64[np.ndarray, "3 3"]) -> float:
    """Angle in degrees between the sensor's z axis and up, the z axis of the frame ``up``."""
    return float(np.degrees(np.arccos(np.clip(R_up_sensor[2, 2], -1.0, 1.0))))


def upright_by_frame(T_base_sensor: Pose) -> Float64[np.ndarray, "3 3"] | None:
    """The rotation from the sensor's axes to those of a base frame with z up (REP 103); None for a level sensor.

    A level sensor keeps its own heading: networks are trained on clouds of any heading.
    """
    R = T_base_sensor[:3, :3]
    return None if tilt_deg(R) < LEVEL_DEG else R


def upright_by_gravity(up: Float[np.ndarray, " 3"]) -> Float64[np.ndarray, "3 3"] | None:
    """The smallest rotation that takes ``up``, a direction in the sensor's frame, to z; None for a level sensor.

    up: what an accelerometer at rest measures, in any unit. Upside down, the turn is about x. Raises ValueError for a
    vector without a direction.
    """
    length = float(np.linalg.norm(up))
    if not np.isfinite(length) or length < 1e-6:
        raise ValueError(f"{np.asarray(up).tolist()} has no direction")
    x, y, z = np.asarray(up, np.float64) / length
    axis = np.array([y, -x, 0.0])  # up x z
    sine = float(np.hypot(x, y))
    angle = np.arctan2(sine, z)
    if np.degrees(angle) < LEVEL_DEG:
        return None
    axis = axis / sine if sine > 1e-9 else np.array([1.0, 0.0, 0.0])
    return np.asarray(Rotation.from_rotvec(angle * axis).as_matrix())


class Gravity:
    """Which way is up in an IMU's frame: the mean of its accelerometer around a moment.

    window_s: length of the mean. A second or two outlasts bumps; a robot that brakes at 1 m/s^2 all the while tilts
    the answer by 6 degrees. keep_s: how much is kept behind the newest sample; None keeps all.
    """

    def __init__(self, window_s: float = 2.0, keep_s: float | None = None) -> None:
        self._half_ns = round(window_s * 5e8)
        self._keep_ns = None if keep_s is None else round(keep_s * 1e9)
        self.frame_id = ""  # of the IMU; an empty one stands for the LiDAR's
        self._samples: deque[tuple[int, float, float, float]] = deque()

    def add(self, stamp: int, acceleration: tuple[float, float, float], frame_id: str = "") -> None:
        """One sample (ns; any unit). Stamps ascend; one that does not means that time began anew."""
        self.frame_id = frame_id
        if self._samples and stamp < self._samples[-1][0]:
            self._samples.clear()
        if np.isfinite(acceleration).all():
            self._samples.append((stamp, *acceleration))
        while self._keep_ns is not None and self._samples and self._samples[0][0] < stamp - self._keep_ns:
            self._samples.popleft()

    def up(self, stamp: int) -> Float64[np.ndarray, " 3"] | None:
        """The mean acceleration within half a window of ``stamp``, in the IMU's frame; None where there is none."""
        near = [sample[1:] for sample in list(self._samples) if abs(sample[0] - stamp) <= self._half_ns]
        mean = np.mean(near, axis=0) if near else np.zeros(3)
        return mean if np.linalg.norm(mean) > 1e-6 else None

    def away_s(self, stamp: int) -> float:
        """Seconds from ``stamp`` (ns) to the nearest sample beyond the window; 0 where one is within, or none came."""
        away = min((abs(sample[0] - stamp) for sample in list(self._samples)), default=0)
        return away * 1e-9 if away > self._half_ns else 0.0


@dataclass
class Upright:
    """Finds which way is up for each scan. mode: one of :data:`MODES`; base_frame: a frame of the robot with z up.

    gravity: of the IMU, if there is one.
    """

    mode: str = "auto"
    base_frame: str = "base_link"
    gravity: Gravity | None = None

    def apply(self, scan: Scan, lookup: Lookup) -> tuple[Scan, str]:
        """The scan with its ``R_upright``, and how that was found, for a person to read.

        Raises TransformError where mode is base or imu and that does not tell which way is up.
        """
        if self.mode == "off":
            return scan, "as it came (off)"
        errors: list[str] = []
        for name, find in (("base", self._by_base), ("imu", self._by_imu)):
            if self.mode not in ("auto", name):
                continue
            try:
                R, source = find(scan, lookup)
            except TransformError as error:
                if self.mode == name:
                    raise
                errors.append(error.cause)
                continue
            if R is None:
                return scan, f"level, by {source}"
            return replace(scan, R_upright=R), f"turned upright from {tilt_deg(R):.1f} degrees, by {source}"
        return scan, f"as it came: {'; '.join(errors)}"

    def _by_base(self, scan: Scan, lookup: Lookup) -> tuple[Float64[np.ndarray, "3 3"] | None, str]:
        base = self.base_frame
        try:
            T_base_lidar = lookup(base, scan.frame_id, scan.stamp)
        except TransformError as error:
            try:  # robots without base_link have the one that REP 120 puts on the ground
                base, T_base_lidar = _FOOTPRINT, lookup(_FOOTPRINT, scan.frame_id, scan.stamp)
            except TransformError:
                raise error from None
        return upright_by_frame(T_base_lidar), f"{base} <- {scan.frame_id} in TF"

    def _by_imu(self, scan: Scan, lookup: Lookup) -> tuple[Float64[np.ndarray, "3 3"] | None, str]:
        up = None if self.gravity is None else self.gravity.up(scan.stamp)
        if self.gravity is not None and up is None and (away := self.gravity.away_s(scan.stamp)):
            raise TransformError(
                f"The IMU's stamps are {away:.1f} s away from the scan's",
                "Let IMU and LiDAR share one clock, or publish the LiDAR's pose on the robot",
            )
        if self.gravity is None or up is None:
            raise TransformError("No IMU measures gravity", "Connect an IMU, or publish the LiDAR's pose on the robot")
        if self.gravity.frame_id not in ("", scan.frame_id):
            up = lookup(scan.frame_id, self.gravity.frame_id, scan.stamp)[:3, :3] @ up
        return upright_by_gravity(up), "the IMU's gravity"


def upright_points(scan: Scan, xyz: Float32[np.ndarray, "n 3"] | None = None) -> Float32[np.ndarray, "n 3"]:
    """The scan's points, or ``xyz`` in its frame, turned upright about the sensor."""
    points = scan.xyz if xyz is None else xyz
    return points if scan.R_upright is None else points @ scan.R_upright.T.astype(np.float32)


def as_sensed(scan: Scan, xyz: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3"]:
    """Upright points back in the frame of the scan's sensor: the inverse of :func:`upright_points`."""
    return xyz if scan.R_upright is None else xyz @ scan.R_upright.astype(np.float32)
