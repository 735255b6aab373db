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

from ov3d_perception.bags.camera_info import to_camera
from ov3d_perception.bags.images import decode_image
from ov3d_perception.bags.messages import stamp_ns
from ov3d_perception.bags.pointcloud2 import decode, has_field, structured
from ov3d_perception.bags.reader import Bag as Reader
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.bags.restamp import header_stamp
from ov3d_perception.datasets.source import FrameSource, require
from ov3d_perception.errors import CalibrationError, DatasetError, Ov3dError, PointCloudError, TransformError
from ov3d_perception.geometry.deskew import deskew
from ov3d_perception.geometry.transform_tree import TransformTree
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.types import Camera, Frame, Pose, Scan, Sweep, View

CLOUD, INFO = "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/CameraInfo"
IMAGES = ("sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image")
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
    camera: Camera
    frame_id: str
    images: _Stream


class Bag(FrameSource):
    """Frames of one bag.

    root: bag folder or file. points: topic of the clouds; None: the only one, or /points. cameras: namespaces
    ("/cam_front"); None: all that have images and camera_info. fixed_frame: the world of the frames. sweeps: K, the key
    sweep and up to K - 1 before it. every: take each n-th scan as key sweep. labelset: what the ``label`` field of
    ``truth`` means; None for a bag without ground truth. images: False leaves the views out. intensity_scale: see
    ``pointcloud2.decode``. deskew: move each point to where it was at the scan's stamp, where the cloud has times.
    max_lag: images farther from the middle of the scan than this many seconds are left out. tolerance: how far beyond
    the recorded TF a stamp may lie, in seconds.

    Raises BagError (damage), DatasetError that lists what is missing: topics, calibration, transforms.
    """

    def __init__(
        self,
        root: str | Path,
        points: str | None = None,
        cameras: Sequence[str] | None = None,
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
        self._cameras = list(self._find_cameras(cameras, problems)) if images else []
        self._truth = self._find_truth(truth, problems)
        first = self._decoded(self._clouds, 0)
        self._lidar = str(first.header.frame_id)
        self._half_scan = self._duration_of(first) // 2
        self._posed = self._posed_scans(problems)
        require(self.root, problems, "Record points, image_raw/compressed, camera_info, tf and tf_static together")

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

    def _find_cameras(self, wanted: Sequence[str] | None, problems: list[str]) -> Iterator[_CameraStream]:
        """Cameras with images, calibration and a place in TF; what lacks one is a problem if it was asked for by name
        or has a camera_info, else it is no camera (a LiDAR's range image, say)."""
        bag = self._open()
        images = {_namespace(name): name for kind in reversed(IMAGES) for name in bag.topics_of(kind)}
        infos = {_namespace(name): name for name in bag.topics_of(INFO)}
        for namespace in wanted if wanted is not None else sorted(images):
            if namespace not in images or namespace not in infos:
                if wanted is not None:
                    problems.append(f"{namespace}: no image_raw(/compressed), or no camera_info beside it")
                continue
            try:
                yield self._camera(namespace, images[namespace], infos[namespace])
            except Ov3dError as error:
                problems.append(f"{namespace}: {error}")

    def _camera(self, namespace: str, images: str, infos: str) -> _CameraStream:
        info = self._decoded(self._stream(infos), 0)
        frame_id = info.header.frame_id
        if frame_id not in self._tree.frames:
            raise TransformError(f"Its frame '{frame_id}' is not in the bag's TF", "Record /tf_static")
        stream = self._stream(images)
        camera = to_camera(info, namespace.strip("/").replace("/", "_"))
        size = decode_image(self._decoded(stream, 0)).shape[:2]
        if size != (camera.height, camera.width):
            raise CalibrationError(
                f"Its images are {size[1]} x {size[0]}, its camera_info says {camera.width} x {camera.height}",
                "Record images and camera_info of the same stream",
            )
        return _CameraStream(camera, frame_id, stream)

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
        taken = int(stream.images.stamps[number])
        if abs(taken - middle) > self._max_lag:
            return None
        try:
            T_world_camera = self._pose(stream.frame_id, taken)
        except TransformError:
            return None
        return View(stream.camera, T_world_camera, decode_image(self._decoded(stream.images, number)), taken)

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


def _namespace(topic: str) -> str:
    """ "/front/image_raw/compressed" and "/front/camera_info" belong to "/front"."""
    return topic.removesuffix("/compressed").rpartition("/")[0]
