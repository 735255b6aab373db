"""A drive through a simulated street: scans, pictures and the truth, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, Int32

from ov3d_perception.errors import DatasetError
from ov3d_perception.geometry.deskew import deskew
from ov3d_perception.sim import camera as cameras_
from ov3d_perception.sim import lidar as lidars
from ov3d_perception.sim import rig
from ov3d_perception.sim.lidar import LidarModel
from ov3d_perception.sim.rays import RayScene
from ov3d_perception.sim.world import World, generate
from ov3d_perception.types import Frame, Pose, Scan, Sweep, View

MAX_DURATION_S = 600.0
EPOCH = 1_700_000_000_000_000_000  # ns; the stamp of every drive's first scan


@dataclass(frozen=True)
class SimFrame:
    """One revolution of the LiDAR and the pictures taken meanwhile.

    raw: points in the sensor frame of their own firing, ``time`` filled. scan: the same points in the sensor frame at
    ``stamp``. labels, instances: truth, in the order of the points. T_world_lidar, T_world_base: poses at ``stamp``.
    views: six, each with its own stamp and pose, or none; class_images: class of each pixel (UNLABELLED: sky).
    """

    stamp: int
    raw: Scan
    scan: Scan
    labels: Int32[np.ndarray, " n"]
    instances: Int32[np.ndarray, " n"]
    T_world_base: Pose
    T_world_lidar: Pose
    views: tuple[View, ...] = ()
    class_images: tuple[Int32[np.ndarray, "h w"], ...] = ()

    def frame(self, name: str = "simulated") -> Frame:
        """The same as the project's common type."""
        return Frame(name, (Sweep(self.scan, self.T_world_lidar),), self.views, self.labels)


@dataclass(frozen=True)
class SimulatedDrive:
    """A drive; iterate over it to simulate it. The same drive gives the same frames, in any order of access."""

    seed: int
    world: World
    frames: int
    rate_hz: float
    cameras: bool
    image_every: int
    stride: int
    image_size: tuple[int, int]
    lidar: LidarModel = field(default_factory=LidarModel)
    robot: rig.Robot = rig.CAR

    @property
    def rig(self) -> tuple[rig.MountedCamera, ...]:
        """The cameras, as mounted."""
        return self.robot.cameras(*self.image_size)

    def base_at(self, times: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, "n 4 4"]:
        """T_world_base at times in seconds after the start."""
        times = np.asarray(times, float)
        return self.world.road.pose(self.world.ego(times), self.world.ego_t)

    def lidar_at(self, times: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, "n 4 4"]:
        """T_world_lidar at times in seconds after the start."""
        return self.base_at(times) @ self.robot.lidar_mount()

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[SimFrame]:
        return (self[number] for number in range(self.frames))

    def __getitem__(self, number: int) -> SimFrame:
        """Simulates frame ``number``: the revolution that starts ``number * stride / rate_hz`` s into the drive."""
        if not 0 <= number < self.frames:
            raise IndexError(number)
        period = 1 / self.rate_hz
        start = number * self.stride * period
        rng = np.random.default_rng([self.seed, number * self.stride])
        scenes = [self.world.at(moment) for moment in self.lidar.moments(start, period)]
        found = lidars.sweep(self.lidar, scenes, self.lidar_at, start, period, rng)
        raw = _stamped(found.scan)
        scan = deskew(raw, lambda stamps: self.lidar_at((stamps - EPOCH) / 1e9))
        views, truths = (
            self._pictures(scenes, start, period, rng) if self.cameras and number % self.image_every == 0 else ((), ())
        )
        base = self.base_at(np.array([start]))[0]
        return SimFrame(
            raw.stamp, raw, scan, found.labels, found.instances, base, base @ self.robot.lidar_mount(), views, truths
        )

    def _pictures(
        self, scenes: list[RayScene], start: float, period: float, rng: np.random.Generator
    ) -> tuple[tuple[View, ...], tuple[Int32[np.ndarray, "h w"], ...]]:
        """Each camera's picture at the moment the beam sweeps past its axis."""
        views, truths = [], []
        for mounted in self.rig:
            phase = self.lidar.phase(mounted.yaw)
            time, scene = start + period * phase, scenes[int(phase * len(scenes))]
            T = self.base_at(np.array([time]))[0] @ mounted.T_base_camera
            picture = cameras_.render(mounted.camera, T, scene, self.world.light, rng)
            views.append(View(mounted.camera, T, picture.image, EPOCH + round(time * 1e9)))
            truths.append(picture.classes)
        return tuple(views), tuple(truths)


def _stamped(scan: Scan) -> Scan:
    return Scan(scan.xyz, scan.intensity, EPOCH + scan.stamp, scan.frame_id, scan.time, scan.ring)


def simulate(
    seed: int,
    duration_s: float,
    *,
    rate_hz: float = 10.0,
    cameras: bool = True,
    image_every: int = 1,
    stride: int = 1,
    image_size: tuple[int, int] = (480, 270),
    lidar: LidarModel | None = None,
    sun: tuple[float, float] | None = None,
    robot: str = "car",
    paint: int = 0,
) -> SimulatedDrive:
    """The drive of ``seed`` over ``duration_s`` seconds.

    rate_hz: revolutions a second. stride: simulate only each stride-th revolution. image_every: pictures only with
    each image_every-th of those. image_size: width, height. sun: azimuth and elevation in radians, else by the seed.
    lidar: instead of the robot's own. robot: one of ``rig.ROBOTS``. paint: other than 0, the materials of another town:
    each has another colour and another reflectivity, the same in all worlds of that number.
    Raises DatasetError for values that make no drive.
    """
    if seed < 0 or not 0 < duration_s < MAX_DURATION_S or rate_hz <= 0 or min(stride, image_every, *image_size) < 1:
        raise DatasetError(
            f"No drive: seed {seed}, {duration_s} s, {rate_hz} Hz, {stride=}, {image_every=}, {image_size=}",
            f"Give a seed from 0, a duration up to {MAX_DURATION_S:.0f} s, and positive numbers otherwise",
        )
    world, carrier = generate(seed, duration_s, sun=sun, paint=paint), rig.robot(robot)
    frames = max(1, int(duration_s * rate_hz / stride + 1e-6))
    device = lidar or carrier.lidar
    return SimulatedDrive(seed, world, frames, rate_hz, cameras, image_every, stride, image_size, device, carrier)
