"""The robots of the simulator: where their sensors sit, which way they look, what LiDAR they carry.

``car`` has the positions of the nuScenes car, ``car64`` a LiDAR of 64 beams and one camera where KITTI's car has them.
``cart`` is a low robot with a LiDAR of 16 beams, as sidewalk robots are: what a network learned from the car does not
fit it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ov3d_perception.errors import DatasetError
from ov3d_perception.sim.lidar import LidarModel
from ov3d_perception.types import Camera, Pose

# Name: position on base_link (m), yaw (degrees), horizontal field of view (degrees).
Mounts = Mapping[str, tuple[tuple[float, float, float], float, float]]
_CAR: Mounts = {
    "cam_front": ((1.70, 0.0, 1.51), 0.0, 72.0),
    "cam_front_left": ((1.52, 0.49, 1.51), 55.0, 72.0),
    "cam_front_right": ((1.52, -0.49, 1.51), -55.0, 72.0),
    "cam_back": ((0.03, 0.0, 1.57), 180.0, 110.0),
    "cam_back_left": ((1.04, 0.48, 1.56), 110.0, 72.0),
    "cam_back_right": ((1.04, -0.48, 1.56), -110.0, 72.0),
}
_CART: Mounts = {
    "cam_front": ((0.32, 0.0, 0.62), 0.0, 88.0),
    "cam_left": ((0.10, 0.24, 0.62), 90.0, 88.0),
    "cam_right": ((0.10, -0.24, 0.62), -90.0, 88.0),
    "cam_back": ((-0.28, 0.0, 0.62), 180.0, 80.0),
}
_KITTI: Mounts = {"cam_front": ((1.03, 0.06, 1.65), 0.0, 81.5)}
_OPTICAL = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], float)  # axes of an optical frame that looks along body x


@dataclass(frozen=True)
class MountedCamera:
    """A camera on the robot; ``yaw`` (radians) is the direction of its optical axis about base_link's z."""

    camera: Camera
    T_base_camera: Pose
    yaw: float


@dataclass(frozen=True)
class Robot:
    """lidar_at: position of the LiDAR on base_link, metres; x is forward. mounts: of the cameras, by name."""

    name: str
    lidar: LidarModel
    lidar_at: tuple[float, float, float]
    mounts: Mounts = field(repr=False)

    def cameras(self, width: int = 480, height: int = 270) -> tuple[MountedCamera, ...]:
        """The ring cameras, pinhole, for images of the given size."""
        return tuple(_mount(name, *spec, width, height) for name, spec in self.mounts.items())

    def lidar_mount(self) -> Pose:
        """T_base_lidar."""
        T = np.eye(4)
        T[:3, 3] = self.lidar_at
        return T


CAR = Robot("car", LidarModel(), (0.94, 0.0, 1.84), _CAR)
CART = Robot(
    "cart", LidarModel(beams=16, lowest=-15.0, highest=15.0, columns=900, response=0.6), (0.0, 0.0, 0.78), _CART
)
_HDL64 = LidarModel(64, lowest=-24.3, middle=-8.5, highest=2.0, columns=2083, max_range=100.0, response=0.5)
CAR64 = Robot("car64", _HDL64, (0.76, 0.0, 1.73), _KITTI)
ROBOTS = {robot.name: robot for robot in (CAR, CART, CAR64)}


def robot(name: str) -> Robot:
    """The robot of a name. Raises DatasetError for an unknown one."""
    if name not in ROBOTS:
        raise DatasetError(f"The simulator has no robot '{name}'", f"Choose {' or '.join(ROBOTS)}")
    return ROBOTS[name]


def cameras(width: int = 480, height: int = 270) -> tuple[MountedCamera, ...]:
    """The six ring cameras of the car."""
    return CAR.cameras(width, height)


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
    """T_base_lidar of the car: 1.84 m above the ground."""
    return CAR.lidar_mount()
