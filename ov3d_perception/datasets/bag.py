"""Any rosbag2 with a LiDAR, calibrated cameras and TF as frames: what the robot itself recorded.

A frame is a scan with the scans before it, and for each camera the image nearest to the middle of the scan, all at
their own poses, taken from the bag's TF at their own stamps.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64

from ov3d_perception.bags.cameras import CLOUD, Axes, BagCamera, find_cameras
from ov3d_perception.bags.images import Levels, decode_image, grey_levels, is_sixteen_bit
from ov3d_perception.bags.messages import stamp_ns
from ov3d_perception.bags.pointcloud2 import decode, has_field, structured
from ov3d_perception.bags.reader import Bag as Reader
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.bags.restamp import header_stamp
from ov3d_perception.datasets.source import FrameSource, require
from ov3d_perception.errors import DatasetError, ImageError, PointCloudError, TransformError
from ov3d_perception.geometry.cameras import project
from ov3d_perception.geometry.deskew import deskew
from ov3d_perception.geometry.poses import invert, transform
from ov3d_perception.geometry.transform_tree import TransformTree
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.types import Frame, Pose, Scan, Sweep, View

TRUTH = "/ground_truth/points"
_SECOND = 1_000_000_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Stream:
    """Messages of one topic. stamps: of their headers, ascending; received: those that the bag keeps them under."""

    topic: str
    stamps: Int64[np.ndarray, " n"]
    received: Int64[np.ndarray, " n"]

    def nearest(self, stamp: int) -> int:
        after = int(np.searchsorted(self.stamps, stamp))
        around = [i for i in (after - 1, after) if 0 <= i < len(self.stamps)]
        return min(around, key=lambda i: abs(int(self.stamps[i]) - stamp))


@dataclass(frozen=True)
class _CameraStream:
    """levels: black and white of a 16-bit camera, None for one of 8 bits."""

    of: BagCamera
    images: _Stream
    levels: Levels | None


class Bag(FrameSource):
    """Frames of one bag.

    root: bag folder or file. points: topic of the clouds; None: the only one, or /points. cameras: namespaces
    ("/cam_front") or image topics ("/cam_front/image_rect"); None: all with images and camera_info, one a namespace.
    camera_axes: how the cameras' frames lie, see ``bags.cameras.find_cameras``. fixed_frame: the world of the frames.
    sweeps: K, the key sweep and up to K - 1 before it. every: take each n-th scan as key sweep. labelset: what the
    ``label`` field of ``truth`` means; None for a bag without ground truth. images: False leaves the views out.
    intensity_scale: see ``pointcloud2.decode``. deskew: move each point to where it was at the scan's stamp, where the
    cloud has times.
    max_lag: images farther from the middle of the scan than this many seconds are left out. tolerance: how far beyond
    the recorded TF a stamp may lie, in seconds.

    Raises BagError (damage), DatasetError that lists what is missing: topics, calibration, transforms.
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
        deskew: bool = True,
        max_lag: float = 0.1,
        tolerance: float = 0.05,
    ) -> None:
        self.root, self.fixed_frame, self.sweeps = Path(root), fixed_frame, sweeps
        self.labelset = LabelSet.load(labelset) if labelset else None
        self.sequences = (self.root.stem,)
        self._scale, self._deskew, self._every = intensity_scale, deskew, every
        self._max_lag, self._tolerance = int(max_lag * _SECOND), int(tolerance * _SECOND)
        self._reader: Reader | None = None
        self._owner = 0
        problems: list[str] = []
        self._tree: TransformTree = self._open().transforms()
        self._clouds = self._stream(self._points_topic(points))
        self._truth = self._find_truth(truth, problems)
        first = self._decoded(self._clouds, 0)
        self._lidar = str(first.header.frame_id)
        self._cameras = list(self._find_cameras(cameras, camera_axes, problems)) if images else []
        self._half_scan = self._duration_of(first) // 2
        self._posed = self._posed_scans(problems)
        remedy = (
            "Record points, images with camera_info, tf and tf_static together, or name the cameras to use: cameras="
        )
        require(self.root, problems, remedy)
        self._warn_of_blind_cameras()

    def __len__(self) -> int:
        return len(range(0, len(self._posed), self._every))

    def frame(self, index: int) -> Frame:
        position = index * self._every
        key = self._posed[position]
        message = self._decoded(self._clouds, key)
        raw = decode(message, intensity_scale=self._scale)
        earlier = self._posed[max(0, position - self.sweeps + 1) : position]
        sweeps = [self._sweep(raw)] + [self._sweep(self._scan(number)) for number in reversed(earlier)]
        views = [view for stream in self._cameras if (view := self._view(stream, raw.stamp)) is not None]
        labels = self._labels(raw) if self._truth is not None else None
        return Frame(f"{self.root.stem}/{key:06d}", tuple(sweeps), tuple(views), labels)

    # -- what there is -----------------------------------------------------------------------------------------------

    def _points_topic(self, wanted: str | None) -> str:
        clouds = [name for name in self._open().topics_of(CLOUD) if not name.startswith("/ground_truth/")]
        chosen = wanted or ("/points" if "/points" in clouds else clouds[0] if len(clouds) == 1 else None)
        if chosen not in clouds:
            found = ", ".join(clouds) or "none"
            raise DatasetError(
                f"Which cloud of {self.root} to take is not clear: it has {found}; asked for {wanted}",
                "Name one: points=",
            )
        return chosen

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

    def _levels(self, stream: _Stream) -> Levels | None:
        """Black and white of a 16-bit camera, the same for all its images; None for one of 8 bits."""
        if not is_sixteen_bit(self._decoded(stream, 0)):
            return None
        numbers = np.unique(np.linspace(0, len(stream.stamps) - 1, 8).astype(int))
        levels = grey_levels([self._decoded(stream, int(number)) for number in numbers])
        _log.warning(
            "%s: %s has 16 bits: its levels %d to %d become black to white in all its images", self.root, stream.topic,
            *levels,
        )  # fmt: skip
        return levels

    def _warn_of_blind_cameras(self) -> None:
        """A camera that sees no point of the first scan is probably turned the wrong way in TF."""
        scan = self._scan(self._posed[0])
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

    def _find_truth(self, topic: str, problems: list[str]) -> _Stream | None:
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
        posed, last = [], None
        for number, stamp in enumerate(self._clouds.stamps):
            try:
                self._pose(self._lidar, int(stamp))
                posed.append(number)
            except TransformError as error:
                last = error
        if not posed:
            problems.append(f"{self._clouds.topic}: no scan has a pose in '{self.fixed_frame}': {last}")
        elif last is not None:
            _log.warning(
                "%s: %d scans without a pose left out; %s", self.root, len(self._clouds.stamps) - len(posed), last
            )
        return posed

    # -- reading -----------------------------------------------------------------------------------------------------

    def _scan(self, number: int) -> Scan:
        return decode(self._decoded(self._clouds, number), intensity_scale=self._scale)

    def _sweep(self, scan: Scan) -> Sweep:
        T_world_lidar = self._pose(scan.frame_id, scan.stamp)
        if self._deskew:
            scan = deskew(scan, lambda stamp: self._pose(scan.frame_id, stamp))
        return Sweep(scan, T_world_lidar)

    def _view(self, stream: _CameraStream, stamp: int) -> View | None:
        """The camera's image nearest to the middle of the scan; None if there is none near, or none with a pose."""
        middle = stamp + self._half_scan
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

    def _pose(self, frame_id: str, stamp: int) -> Pose:
        return self._tree.lookup(self.fixed_frame, frame_id, stamp, self._tolerance)

    def _duration_of(self, cloud: Any) -> int:
        time = decode(cloud).time
        return 0 if time is None else int(float(time.max()) * _SECOND)

    def _stream(self, topic: str) -> _Stream:
        """Stamps of a topic, without decoding its messages."""
        messages = self._open().messages([topic])
        pairs = sorted((header_stamp(message.data), message.stamp) for message in messages)
        if not pairs:
            raise DatasetError(f"Topic {topic} of {self.root} has no message", "Record the bag anew")
        stamps, received = np.array(pairs, np.int64).T
        return _Stream(topic, stamps, received)

    def _decoded(self, stream: _Stream, number: int) -> Any:
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
