"""KISS-ICP (Vizzo et al., RA-L 2023) over a sequence of scans, in a process of its own.

Three facts of the library decide how it is called. It moves the points to the **end** of a scan, so that its poses are
those of ``stamp + max(time)``, not of the stamp that ROS drivers write (the first point's). Numbers that are not finite
end its process, as do times that are all alike (it divides by their span): these are kept from it, and the process is a
child, so that its end is an error here. And it believes that the first scan was taken at rest: the first scans are
registered twice, the second time with the motion that the first time found.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from ov3d_perception.errors import OdometryError
from ov3d_perception.types import Pose, Poses, Scan

FEW_VOXELS = 50  # of 1.5 voxel sizes, which are what is registered: fewer do not hold six degrees of freedom
WARM_UP = 5  # scans
_SILENT_S = 120.0  # a registration takes a fraction of a second
_SECOND = 1_000_000_000
_Cloud = tuple[Float64[np.ndarray, "_ 3"], Float64[np.ndarray, "_"]]  # points and their times


@dataclass(frozen=True)
class KissSettings:
    """min_range, max_range: metres; points outside are not used. voxel_size: metres, of the map; for halls 0.3 to 0.5.
    points_per_voxel: that the map keeps. convergence: size of a step of the registration that ends it.

    KISS-ICP's own defaults are 100 m, a hundredth of it, 20 points and 0.0001. One point is a third of the time, and
    drifts less where rings are far apart: many points of one ring in a voxel hold the next scan's ring to themselves.
    """

    min_range: float = 1.0
    max_range: float = 80.0
    voxel_size: float = 0.7
    points_per_voxel: int = 1
    convergence: float = 1e-3


@dataclass(frozen=True)
class Registered:
    """Where a scan was: T_odom_lidar at ``stamp`` (ns). None for a scan that is not registered; problem says why."""

    stamp: int
    T_odom_lidar: Pose | None
    problem: str = ""


_Asked = tuple[Registered, _Cloud | None]  # without a cloud: nothing to register


def register(scans: Iterable[Scan], settings: KissSettings | None = None) -> Iterator[Registered]:
    """The pose of each scan, in order. Scans with too few points in reach have none.

    Raises OdometryError where KISS-ICP is not installed, or its process ends or hangs.
    """
    settings = settings or KissSettings()
    if find_spec("kiss_icp") is None:
        raise OdometryError("KISS-ICP is not installed", "pip install 'ov3d_perception[odometry]'")
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_serve, args=(there, settings), name="kiss-icp", daemon=True)
    child.start()
    there.close()
    try:
        yield from _registered(here, scans, settings)
    finally:
        here.close()
        child.join(1.0)
        if child.is_alive():
            child.kill()
            child.join()


def prepared(scan: Scan, settings: KissSettings) -> tuple[int, Float64[np.ndarray, "m 3"], Float64[np.ndarray, " k"]]:
    """The stamp (ns) that the scan's pose will have; one point a voxel of half the voxel size; their times, 0 to 1.

    There are no times (k = 0) where the scan has none or they are all alike; then the pose is that of the scan's stamp.
    """
    distance = np.linalg.norm(scan.xyz, axis=1)
    kept = np.flatnonzero((distance > settings.min_range) & (distance < settings.max_range))
    kept = kept[_first_in_voxel(scan.xyz[kept], settings.voxel_size / 2)]
    points = np.ascontiguousarray(scan.xyz[kept], np.float64)
    if scan.time is None or not len(scan) or not scan.time.max() > scan.time.min():
        return scan.stamp, points, np.zeros(0)
    first, last = float(scan.time.min()), float(scan.time.max())
    return scan.stamp + round(last * _SECOND), points, (scan.time[kept].astype(np.float64) - first) / (last - first)


def _first_in_voxel(xyz: np.ndarray, size: float) -> Int64[np.ndarray, " m"]:
    cells = np.floor(xyz / size).astype(np.int64)
    key = (cells[:, 0] << 42) ^ ((cells[:, 1] & 0x1FFFFF) << 21) ^ (cells[:, 2] & 0x1FFFFF)
    return np.sort(np.unique(key, return_index=True)[1])


def _too_little(points: Float64[np.ndarray, "m 3"], settings: KissSettings) -> str:
    voxels = len(_first_in_voxel(points, 1.5 * settings.voxel_size)) if len(points) else 0
    if voxels >= FEW_VOXELS:
        return ""
    reach = f"{settings.min_range:g} to {settings.max_range:g} m"
    return f"its points from {reach} fill {voxels} voxels of {1.5 * settings.voxel_size:g} m, {FEW_VOXELS} are needed"


def _registered(child: Connection, scans: Iterable[Scan], settings: KissSettings) -> Iterator[Registered]:
    """The child works on a scan while the next one is read here."""
    asked: list[_Asked] = []
    waiting: list[_Asked] = []
    warm, number = False, 0
    for number, scan in enumerate(scans):
        stamp, points, times = prepared(scan, settings)
        problem = _too_little(points, settings)
        waiting.append((Registered(stamp, None, problem), None if problem else (points, times)))
        if warm or sum(cloud is not None for _, cloud in waiting) >= WARM_UP:
            yield from _answers(child, asked, number)
            _send(child, waiting, number)
            asked, waiting, warm = waiting, [], True
    yield from _answers(child, asked, number)
    _send(child, waiting, number)
    yield from _answers(child, waiting, number)


def _clouds(asked: list[_Asked]) -> list[_Cloud]:
    return [cloud for _, cloud in asked if cloud is not None]


def _answers(child: Connection, asked: list[_Asked], number: int) -> Iterator[Registered]:
    poses = iter(_receive(child, number) if _clouds(asked) else ())
    for scan, cloud in asked:
        yield scan if cloud is None else replace(scan, T_odom_lidar=next(poses))


def _send(child: Connection, asked: list[_Asked], number: int) -> None:
    """Only when the child has answered all before, so that it never waits in vain."""
    if not (clouds := _clouds(asked)):
        return
    try:
        child.send(clouds)
    except ConnectionError as error:
        raise _ended(number) from error


def _receive(child: Connection, number: int) -> Poses:
    try:
        if not child.poll(_SILENT_S):
            raise OdometryError(f"KISS-ICP does not answer at scan {number}", "Cut the bag there")
        poses = child.recv()
    except (EOFError, ConnectionError) as error:
        raise _ended(number) from error
    if isinstance(poses, str):
        raise OdometryError(f"KISS-ICP failed at scan {number}: {poses}", "Cut the bag there")
    if not np.isfinite(poses).all():
        raise OdometryError(f"KISS-ICP lost its way at scan {number}: its pose is not finite", "Cut the bag there")
    return np.asarray(poses, np.float64)


def _ended(number: int) -> OdometryError:
    return OdometryError(f"KISS-ICP's process ended at scan {number}", "Cut the bag there")


def _serve(parent: Connection, settings: KissSettings) -> None:
    """The child: poses for each list of clouds that comes, until the pipe is closed; an exception's text if it fails.

    The first list is the warm-up.
    """
    from kiss_icp.config import KISSConfig
    from kiss_icp.config.config import DataConfig, MappingConfig, RegistrationConfig
    from kiss_icp.kiss_icp import KissICP

    data = DataConfig(min_range=settings.min_range, max_range=settings.max_range)
    mapping = MappingConfig(voxel_size=settings.voxel_size, max_points_per_voxel=settings.points_per_voxel)
    registration = RegistrationConfig(max_num_threads=1, convergence_criterion=settings.convergence)
    config = KISSConfig(data=data, mapping=mapping, registration=registration)
    odometry = None
    while True:
        try:
            clouds = parent.recv()
        except (EOFError, ConnectionError):
            return
        try:
            if odometry is None:
                first = KissICP(config)
                _poses(first, clouds)
                odometry = KissICP(config)
                odometry.last_delta = first.last_delta
            parent.send(_poses(odometry, clouds))
        except Exception as error:
            parent.send(f"{type(error).__name__}: {error}")


def _poses(odometry: Any, clouds: list[_Cloud]) -> Poses:
    poses = []
    for points, times in clouds:
        odometry.register_frame(points, times)
        poses.append(odometry.last_pose)
    return np.array(poses)
