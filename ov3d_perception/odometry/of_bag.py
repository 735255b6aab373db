"""LiDAR odometry of a bag: its poses, and TF made of them for bags that have none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ov3d_perception.bags import messages
from ov3d_perception.bags.cloud_reader import CloudReader
from ov3d_perception.bags.clouds import choose_cloud
from ov3d_perception.bags.reader import Bag, open_bag
from ov3d_perception.bags.streams import read_stream
from ov3d_perception.bags.writer import whole_bag
from ov3d_perception.errors import OdometryError, PointCloudError
from ov3d_perception.geometry.poses import invert
from ov3d_perception.odometry.kiss import KissSettings, register
from ov3d_perception.odometry.trajectory import Drift, Trajectory, drift
from ov3d_perception.types import Pose, Scan


def trajectory_of_bag(path: str | Path, points: str | None = None, settings: KissSettings | None = None) -> Trajectory:
    """The LiDAR's poses over a bag, by KISS-ICP. points: topic of the clouds; None: /points, or the only one.

    Where the clouds have times, a pose is that of the scan's last point, and one is added for the first point of the
    first scan. Damaged and nearly empty scans are left out, and told in the notes. Raises BagError, DatasetError for a
    bag without that cloud, OdometryError where fewer than two scans can be registered.
    """
    with open_bag(path) as bag:
        return _trajectory(bag, choose_cloud(bag, points), settings)


def write_transforms(
    path: str | Path,
    out: str | Path,
    points: str | None = None,
    fixed_frame: str = "odom",
    settings: KissSettings | None = None,
) -> Trajectory:
    """Write a bag ``out`` of TF alone: ``fixed_frame`` to the top of the LiDAR's tree in the bag ``path``.

    It starts at the identity, at the first scan's stamp. Give it to the bag data set (``tf=``), or play it beside the
    bag. Raises OdometryError where the bag's own TF has the LiDAR below ``fixed_frame`` already.
    """
    with open_bag(path) as bag:
        topic = choose_cloud(bag, points)
        tree = bag.transforms(of=topic)
        frame = str(next(iter(bag.messages([topic]))).decode().header.frame_id).lstrip("/")
        root = tree.root(frame)
        if root == fixed_frame or (fixed_frame in tree.frames and tree.root(fixed_frame) == root):
            raise OdometryError(
                f"'{frame}' has a place in '{fixed_frame}' in {path}: it has odometry",
                "Use it, or name another frame: --fixed-frame",
            )
        found = _trajectory(bag, topic, settings)
        T_root_lidar = tree.lookup_each(root, frame, found.stamps, tolerance_ns=2**62)
    since_first = invert(found.T_odom_lidar[0]) @ found.T_odom_lidar
    poses = T_root_lidar[0] @ since_first @ np.array([invert(T) for T in T_root_lidar])
    with whole_bag(out) as written:
        for stamp, T in zip(found.stamps.tolist(), poses, strict=True):
            written.write("/tf", messages.tf_message([(fixed_frame, root, stamp, T)]), stamp)
    return found


def drift_of_bag(
    path: str | Path, points: str | None = None, fixed_frame: str = "odom", settings: KissSettings | None = None
) -> Drift:
    """How far KISS-ICP drifts from the bag's own TF: over 100 m of it, or all of a shorter drive.

    Raises TransformError where TF has no pose of the LiDAR in ``fixed_frame``.
    """
    with open_bag(path) as bag:
        topic = choose_cloud(bag, points)
        tree = bag.transforms(of=topic)
        found = _trajectory(bag, topic, settings)
        truth = tree.lookup_each(fixed_frame, found.frame_id, found.stamps, tolerance_ns=50_000_000)
    way = np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1).cumsum()
    scans = int(np.searchsorted(way, 100.0)) + 1
    return drift(found.T_odom_lidar, truth, min(scans, len(truth) - 1))


def _trajectory(bag: Bag, topic: str, settings: KissSettings | None) -> Trajectory:
    problems: Counter[str] = Counter()
    first: list[Scan] = []
    stamps: list[int] = []
    poses: list[Pose] = []
    for found in register(_scans(bag, topic, problems, first), settings):
        if found.T_odom_lidar is None:
            problems[found.problem] += 1
        elif not stamps or found.stamp > stamps[-1]:
            stamps.append(found.stamp)
            poses.append(found.T_odom_lidar)
        else:
            problems["its stamp is not after the one before"] += 1
    notes = tuple(f"{count} scans without a pose: {problem}" for problem, count in problems.items())
    if len(stamps) < 2:
        raise OdometryError(f"{len(stamps)} scans of {topic} can be registered", "; ".join(notes) or "Record more")
    start = first[0].stamp + (0 if first[0].time is None else min(0, round(float(first[0].time.min()) * 1e9)))
    track = Trajectory(np.array(stamps, np.int64), np.array(poses), first[0].frame_id, notes)
    return track.reaching_back_to(start)


def _scans(bag: Bag, topic: str, problems: Counter[str], first: list[Scan]) -> Iterator[Scan]:
    """The scans that can be read; the first of them is put into ``first``."""
    reader = CloudReader(period=read_stream(bag, topic, 50).period_s)
    for message in bag.messages([topic]):
        try:
            scan = reader.read(message.decode()).scan
        except PointCloudError as error:
            problems[error.cause] += 1
            continue
        if not first:
            first.append(scan)
        yield scan
