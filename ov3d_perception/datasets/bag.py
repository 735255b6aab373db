"""Any rosbag2 with a LiDAR, calibrated cameras and TF as frames: what the robot itself recorded.

A frame is a scan with the scans before it, and for each camera the image nearest to the middle of the scan, all at
their own poses, taken from the bag's TF at their own stamps.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from ov3d_perception.bags.cameras import Axes, BagCamera, find_cameras
from ov3d_perception.bags.cloud_reader import CloudReader, describe, faults
from ov3d_perception.bags.clouds import choose_cloud, registered
from ov3d_perception.bags.images import Levels, byte_order_fault, decode_image, grey_levels, is_sixteen_bit
from ov3d_perception.bags.messages import stamp_ns
from ov3d_perception.bags.pointcloud2 import Cloud, has_field, structured
from ov3d_perception.bags.reader import Bag as Reader
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.bags.streams import (
    CLOCK_REMEDY,
    IMU,
    Stream,
    clock_fault,
    read_gravity,
    read_stream,
    read_tf_stream,
)
from ov3d_perception.datasets.source import FrameSource, require
from ov3d_perception.errors import DatasetError, ImageError, NoPosesError, PointCloudError, TransformError
from ov3d_perception.geometry.cameras import project
from ov3d_perception.geometry.deskew import deskew
from ov3d_perception.geometry.poses import invert, transform
from ov3d_perception.geometry.scan_time import UNITS
from ov3d_perception.geometry.transform_tree import TransformTree
from ov3d_perception.geometry.upright import MODES, Upright
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.types import Frame, Pose, Poses, Preparation, Scan, Stamps, Sweep, View

TRUTH = "/ground_truth/points"
_SECOND = 1_000_000_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _CameraStream:
    """levels: black and white of a 16-bit camera, None for one of 8 bits."""

    of: BagCamera
    images: Stream
    levels: Levels | None


class Bag(FrameSource):
    """Frames of one bag.

    root: bag folder or file. points: topic of the clouds; None: the only one, or /points. cameras: namespaces
    ("/cam_front") or image topics ("/cam_front/image_rect"); None: all with images and camera_info, one a namespace.
    camera_axes: how the cameras' frames lie, see ``bags.cameras.find_cameras``. fixed_frame: the world of the
    frames. sweeps: K, the key sweep and up to K - 1 before it, at most a second old. every: take each n-th scan as
    key sweep. labelset: what the ``label`` field of ``truth`` means; None for a bag without ground truth. images:
    False leaves the views out. tf: a second bag whose TF is added, such as ``ov3d bag odometry`` writes for a drive
    without odometry. intensity_scale, time_unit, time_offset: see ``pointcloud2.read``. deskew: move each point to
    where it was at the scan's stamp, where the cloud has times. upright, base_frame: see
    ``geometry.upright.Upright``; imu: topic of the IMU, None: the first one. max_lag: images farther from the
    middle of the scan than this many seconds are left out. tolerance: how far beyond the recorded TF a stamp may
    lie, in seconds. stretch: which part of the drive, as shares of its scans: (0.8, 1.0) is its last fifth.

    Raises BagError (damage), DatasetError that lists what is missing: topics, calibration, transforms; NoPosesError
    where the poses of all scans are among that.
    """

    def __init__(
        self,
        root: str | Path,
        points: str | None = None,
        cameras: Sequence[str] | None = None,
        camera_axes: Axes = "auto",
        fixed_frame: str = "odom",
        sweeps: int = 1,
        every: int = 1,
        labelset: str | None = None,
        truth: str = TRUTH,
        images: bool = True,
        intensity_scale: float | None = None,
        time_unit: str = "auto",
        time_offset: float = 0.0,
        deskew: bool = True,
        upright: str = "auto",
        base_frame: str = "base_link",
        imu: str | None = None,
        max_lag: float = 0.1,
        tolerance: float = 0.05,
        tf: str | Path | None = None,
        stretch: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.root, self.fixed_frame, self.sweeps = Path(root), fixed_frame, sweeps
        self.labelset = LabelSet.load(labelset) if labelset else None
        self.sequences = (self.root.stem,)
        self._deskew, self._every = deskew, every
        self.preparation = Preparation(deskew, intensity_scale=intensity_scale or 0.0, upright=upright)
        self._max_lag, self._tolerance = int(max_lag * _SECOND), int(tolerance * _SECOND)
        self._reader: Reader | None = None
        self._owner = 0
        problems: list[str] = []
        self._clouds = self._stream(choose_cloud(self._open(), points))
        self._tree: TransformTree = self._open().transforms(of=self._clouds.topic)
        if tf is not None:
            with open_bag(tf) as more:
                more.fill(self._tree)
        self._truth = self._find_truth(truth, problems)
        first = self._decoded(self._clouds, 0)
        self._lidar = str(first.header.frame_id)
        for option, value, known in (("time_unit", time_unit, ("auto", *UNITS)), ("upright", upright, MODES)):
            if value not in known:
                problems.append(f"{option} is '{value}', it must be one of: {', '.join(known)}")
        require(self.root, problems, "Correct the options")
        self._told: set[str] = set()
        self._cloud_reader = self._learn(intensity_scale, time_unit, time_offset)
        if self._tree.moves_under(self._lidar, base_frame):
            problems.append(registered(self._clouds.topic, self._lidar, base_frame))
        self._upright = Upright(upright, base_frame)
        self._find_up(imu, problems)
        self._cameras = list(self._find_cameras(cameras, camera_axes, problems)) if images else []
        self._posed = self._posed_scans(problems)
        kind = DatasetError if self._posed else NoPosesError
        first_share, last_share = (float(share) for share in stretch)
        if not 0 <= first_share < last_share <= 1:
            problems.append(f"stretch is {stretch}, it must be two rising shares, such as [0.8, 1.0]")
        else:
            scans = len(self._posed)
            self._posed = self._posed[round(first_share * scans) : round(last_share * scans)]
            if scans and not self._posed:
                problems.append(f"stretch is {stretch}, which holds none of {scans} scans")
        self._cameras = self._check_clocks(cameras is not None, problems)
        remedy = (
            "Record points, images with camera_info, tf and tf_static together, or name the cameras to use: cameras="
        )
        require(self.root, problems, remedy, kind)
        self._warn_of_blind_cameras()

    def __len__(self) -> int:
        return len(range(0, len(self._posed), self._every))

    def frame(self, index: int) -> Frame:
        position = index * self._every
        key = self._posed[position]
        cloud = self._read(key)
        raw = cloud.scan
        oldest = int(self._clouds.stamps[key]) - int(self.preparation.max_sweep_age * _SECOND)  # as live
        before = self._posed[max(0, position - self.sweeps + 1) : position]
        earlier = [number for number in before if self._clouds.stamps[number] >= oldest]
        sweeps = [self._sweep(raw)] + [self._sweep(self._read(number).scan) for number in reversed(earlier)]
        middle = raw.stamp + (0 if cloud.times is None else round(cloud.times.middle * _SECOND))
        views = [view for stream in self._cameras if (view := self._view(stream, middle)) is not None]
        labels = self._labels(raw) if self._truth is not None else None
        return Frame(f"{self.root.stem}/{key:06d}", tuple(sweeps), tuple(views), labels)

    def poses_at(self, stamps: Stamps) -> Poses:
        """T_world_lidar at each stamp (ns), with or without a scan. Raises TransformError where TF tells none."""
        return self._tree.lookup_each(self.fixed_frame, self._lidar, stamps, self._tolerance)

    # -- what there is -----------------------------------------------------------------------------------------------

    def _find_cameras(self, wanted: Sequence[str] | None, axes: Axes, problems: list[str]) -> Iterator[_CameraStream]:
        found = find_cameras(self._open(), self._tree, wanted, self._lidar, axes)
        problems.extend(found.problems)
        for topic, reason in found.left_out.items():
            _log.warning("%s: no camera: %s: %s", self.root, topic, reason)
        for camera in found.cameras:
            _log.info("%s: camera %s", self.root, camera)
            for note in camera.healed:
                _log.warning("%s: camera %s: %s", self.root, camera.namespace, note)
            stream = self._stream(camera.images)
            yield _CameraStream(camera, stream, self._levels(stream))

    def _levels(self, stream: Stream) -> Levels | None:
        """Black and white of a 16-bit camera, the same for all its images; None for one of 8 bits."""
        pictures = []
        for number in np.unique(np.linspace(0, len(stream.stamps) - 1, 8).astype(int)):
            picture = self._decoded(stream, int(number))
            try:
                if not is_sixteen_bit(picture):
                    return None
            except ImageError:  # left out when its frame is read
                continue
            pictures.append(picture)
        if not pictures:
            return None
        if fault := byte_order_fault(pictures[0]):
            _log.warning("%s: %s: %s", self.root, stream.topic, fault)
        levels = grey_levels(pictures)
        _log.warning(
            "%s: %s has 16 bits: its levels %d to %d become black to white in all its images", self.root, stream.topic,
            *levels,
        )  # fmt: skip
        return levels

    def _learn(self, scale: float | None, unit: str, offset: float) -> CloudReader:
        """A reader that knows the bag's clouds: what a few of them decide holds for all, in every process."""
        numbers = sorted({0, len(self._clouds.stamps) // 2, len(self._clouds.stamps) - 1})
        reader = CloudReader(scale, unit, offset, self._clouds.period_s, learn=len(numbers))
        for number in numbers:
            with contextlib.suppress(PointCloudError):  # told when its frame is read
                cloud = reader.read(self._decoded(self._clouds, number))
                if number == numbers[0]:
                    _log.info("%s: %s: %s", self.root, self._clouds.topic, describe(cloud))
        return reader

    def _find_up(self, imu: str | None, problems: list[str]) -> None:
        """Say how the scans are turned upright; read the IMU where TF does not tell."""
        upright, stamps = self._upright, self._clouds.stamps
        middle = int(stamps[len(stamps) // 2])
        try:
            self._lookup(upright.base_frame, self._lidar, middle)
            wanted = upright.mode == "imu"
        except TransformError:
            wanted = upright.mode in ("auto", "imu")
        recorded = self._open()
        topics = [imu] if imu else [topic for topic in recorded.topics_of(IMU) if recorded.topics[topic].count]
        if wanted and topics:
            upright.gravity = read_gravity(recorded, topics[0])
        empty = Scan(np.zeros((0, 3), np.float32), np.zeros(0, np.float32), middle, self._lidar)
        try:
            _, how = upright.apply(empty, self._lookup)
        except TransformError as error:
            problems.append(f"upright={upright.mode}: {error}")
            return
        _log.info("%s: %s is %s", self.root, self._clouds.topic, how)

    def _check_clocks(self, named: bool, problems: list[str]) -> list[_CameraStream]:
        """Cameras whose stamps are of the LiDAR's clock; the others are told, and missing if none is left."""
        tf = read_tf_stream(self._open())
        if tf is not None and (fault := clock_fault(self._clouds, tf)):
            _log.warning("%s: %s: %s. %s", self.root, self._clouds.topic, fault, CLOCK_REMEDY)
        good, bad = [], {}
        for camera in self._cameras:
            fault = clock_fault(camera.images, self._clouds) or self._far_images(camera.images)
            if fault:
                bad[camera.images.topic] = f"{fault}: no image is used. {CLOCK_REMEDY}"
            else:
                good.append(camera)
        if bad and (named or not good):
            problems.extend(f"{topic}: {fault}, or set images=False" for topic, fault in bad.items())
        else:
            for topic, fault in bad.items():
                _log.warning("%s: %s: %s", self.root, topic, fault)
        return good

    def _far_images(self, images: Stream) -> str:
        """Says that none of the images was taken during a scan; "" if one was."""
        half = round((self._clouds.period_s or 0.0) * _SECOND / 2)
        lags = [abs(int(images.stamps[images.nearest(int(at))]) - int(at)) for at in self._clouds.stamps]
        if min(lags) <= self._max_lag + half:
            return ""
        near, nearest = self._max_lag / _SECOND, min(lags) / _SECOND
        return f"none of its stamps is within {near:g} s of a scan (the nearest is {nearest:.3f} s away)"

    def _warn_of_blind_cameras(self) -> None:
        """A camera that sees no point of the first scan is probably turned the wrong way in TF."""
        try:
            scan = self._read(self._posed[0]).scan
        except PointCloudError:  # left out when its frame is read
            return
        for stream in self._cameras:
            if not len(scan) or (view := self._pose_of(stream, scan.stamp)) is None:
                continue
            T_camera_lidar = invert(view) @ self._pose(scan.frame_id, scan.stamp)
            camera = stream.of.camera
            uv, _, seen = project(camera, transform(T_camera_lidar, scan.xyz))
            if not (seen & (uv >= 0).all(axis=1) & (uv < [camera.width, camera.height]).all(axis=1)).any():
                _log.warning(
                    "%s: camera %s sees no point of the first scan: check the pose of its frame '%s' in TF; an image "
                    "needs optical axes (REP 103: x right, y down, z forward; option camera_axes)",
                    self.root, stream.of.namespace, stream.of.frame_id,
                )  # fmt: skip

    def _find_truth(self, topic: str, problems: list[str]) -> Stream | None:
        if self.labelset is None:
            return None
        if topic not in self._open().topics:
            problems.append(f"{topic}: missing, yet labels are asked for (labelset={self.labelset.name})")
            return None
        stream = self._stream(topic)
        if not has_field(self._decoded(stream, 0), "label"):
            problems.append(f"{topic}: has no field 'label'")
        return stream

    def _posed_scans(self, problems: list[str]) -> list[int]:
        """Numbers of the scans whose pose is known; the others are left out."""
        stamps = self._clouds.stamps
        known, _, lost = self._tree.lookup_known(self.fixed_frame, self._lidar, stamps, self._tolerance)
        posed: list[int] = np.flatnonzero(known).tolist()
        if not posed and not self._lidar.strip("/"):
            problems.append(
                f"{self._clouds.topic}: no scan has a pose in '{self.fixed_frame}', since the clouds have no frame_id. "
                "Set it in the LiDAR's driver"
            )
        elif not posed and self.fixed_frame not in (frames := self._tree.frames) and self._lidar.strip("/") in frames:
            root = self._tree.root(self._lidar)
            moves = self._tree.newest(root, self._lidar) is not None
            remedy = (
                f"Set fixed_frame to the frame in which the robot moves: the LiDAR's tree ends at '{root}'"
                if moves
                else "Nothing in TF moves: let odometry publish its transform too, and record /tf"
            )
            problems.append(
                f"{self._clouds.topic}: no scan has a pose in '{self.fixed_frame}', which TF lacks. {remedy}"
            )
        elif not posed:
            problems.append(f"{self._clouds.topic}: no scan has a pose in '{self.fixed_frame}': {lost[-1]}")
        elif lost:
            _log.warning("%s: %d scans without a pose left out; %s", self.root, len(lost), lost[-1])
        return posed

    # -- reading -----------------------------------------------------------------------------------------------------

    def _read(self, number: int) -> Cloud:
        cloud = self._cloud_reader.read(self._decoded(self._clouds, number))
        for kind, text in faults(cloud).items():
            if kind == "stray times" and cloud.times is not None:
                self.leave_out(kind, text, cloud.times.strays)
            elif kind == "far points":
                self.leave_out(kind, text, cloud.far)
            elif kind != "times" or self._deskew:
                self._tell_once(kind, f"{self._clouds.topic}: {text}")
        return cloud

    def _tell_once(self, kind: str, text: str) -> None:
        if kind not in self._told:
            _log.warning("%s: %s (told once)", self.root, text)
        self._told.add(kind)

    def _sweep(self, scan: Scan) -> Sweep:
        T_world_lidar = self._pose(scan.frame_id, scan.stamp)
        scan, _ = self._upright.apply(scan, self._lookup)
        if self._deskew:
            scan = deskew(scan, lambda at: self._tree.lookup_each(self.fixed_frame, scan.frame_id, at, self._tolerance))
        return Sweep(scan, T_world_lidar)

    def _view(self, stream: _CameraStream, middle: int) -> View | None:
        """The camera's image nearest to the middle of the scan; None if there is none near, or none with a pose."""
        number = stream.images.nearest(middle)
        taken, name = int(stream.images.stamps[number]), stream.of.namespace
        if abs(taken - middle) > self._max_lag:
            return None
        T_world_camera = self._pose_of(stream, taken)
        if T_world_camera is None:
            return None
        try:
            image = decode_image(self._decoded(stream.images, number), stream.levels)
        except ImageError as error:
            self.leave_out(f"damaged images of {name}", error)
            return None
        camera = stream.of.camera
        if image.shape[:2] != (camera.height, camera.width):
            size = f"{image.shape[1]} x {image.shape[0]}, not {camera.width} x {camera.height}"
            self.leave_out(f"images of {name} whose size changed", size)
            return None
        return View(camera, T_world_camera, image, taken)

    def _pose_of(self, stream: _CameraStream, stamp: int) -> Pose | None:
        """T_world_camera at a stamp; None, counted, where TF does not reach."""
        try:
            return self._pose(stream.of.frame_id, stamp) @ stream.of.T_frame_camera
        except TransformError as error:
            self.leave_out(f"images of {stream.of.namespace} without a pose", error)
            return None

    def _labels(self, scan: Scan) -> Int32[np.ndarray, " n"]:
        assert self._truth is not None and self.labelset is not None
        number = self._truth.nearest(scan.stamp)
        labels = structured(self._decoded(self._truth, number))["label"]
        count = len(scan) if scan.source_index is None else int(scan.source_index[-1]) + 1
        if int(self._truth.stamps[number]) != scan.stamp or len(labels) < count:
            raise PointCloudError(
                f"The scan at {scan.stamp} ns has no ground truth of its stamp and size", "Write both from one source"
            )
        return self.labelset.map(labels if scan.source_index is None else labels[scan.source_index])

    def _lookup(self, target: str, source: str, stamp: int) -> Pose:
        return self._tree.lookup(target, source, stamp, self._tolerance)

    def _pose(self, frame_id: str, stamp: int) -> Pose:
        return self._lookup(self.fixed_frame, frame_id, stamp)

    def _stream(self, topic: str) -> Stream:
        return read_stream(self._open(), topic)

    def _decoded(self, stream: Stream, number: int) -> Any:
        received = int(stream.received[number])
        for message in self._open().messages([stream.topic], received, received + 1):
            decoded = message.decode()
            if stamp_ns(decoded) == stream.stamps[number]:
                return decoded
        raise DatasetError(f"{self.root} changed while it was read", "Open it again")

    def _open(self) -> Reader:
        """The open bag of this process: file handles must not be shared with data loader workers."""
        if self._reader is None or self._owner != os.getpid():
            self._reader, self._owner = open_bag(self.root), os.getpid()
        return self._reader

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None}
