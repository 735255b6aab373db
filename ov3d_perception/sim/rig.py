"""The robot's sensors: where they sit, which way they look. Positions are those of the nuScenes car."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ov3d_perception.types import Camera, Pose

# Name: position on base_link (m), yaw (degrees), horizontal field of view (degrees).
_CAMERAS = {
    "cam_front": ((1.70, 0.0, 1.51), 0.0, 72.0),
    "cam_front_left": ((1.52, 0.49, 1.51), 55.0, 72.0),
    "cam_front_right": ((1.52, -0.49, 1.51), -55.0, 72.0),
    "cam_back": ((0.03, 0.0, 1.57), 180.0, 110.0),
    "cam_back_left": ((1.04, 0.48, 1.56), 110.0, 72.0),
    "cam_back_right": ((1.04, -0.48, 1.56), -110.0, 72.0),
}
_OPTICAL = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], float)  # axes of an optical frame that looks along body x


@dataclass(frozen=True)
class MountedCamera:
    """A camera on the robot; ``yaw`` (radians) is the direction of its optical axis about base_link's z."""

    camera: Camera
    T_base_camera: Pose
    yaw: float


def cameras(width: int = 480, height: int = 270) -> tuple[MountedCamera, ...]:
    """The six ring cameras, pinhole, for images of the given size."""
    return tuple(_mount(name, *spec, width, height) for name, spec in _CAMERAS.items())


def _mount(
    name: str, position: tuple[float, float, float], yaw: float, fov: float, width: int, height: int
) -> MountedCamera:
    focal = width / 2 / np.tan(np.radians(fov) / 2)
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    c, s = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    T = np.eye(4)
    T[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ _OPTICAL
    T[:3, 3] = position
    return MountedCamera(Camera(name, width, height, K), T, float(np.radians(yaw)))


def lidar_mount() -> Pose:
    """T_base_lidar: 1.84 m above the ground, x forward."""
    T = np.eye(4)
    T[:3, 3] = (0.94, 0.0, 1.84)
    return T
