"""All checks on one bag."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from ov3d_perception.bags.cameras import find_cameras
from ov3d_perception.bags.cloud_reader import CloudReader
from ov3d_perception.bags.clouds import choose_cloud, registered
from ov3d_perception.bags.pointcloud2 import Cloud
from ov3d_perception.bags.reader import Bag, open_bag
from ov3d_perception.bags.streams import Stream, read_stream, read_tf_stream
from ov3d_perception.datasets.bag import Bag as BagFrames
from ov3d_perception.doctor import poses, sensors, timing
from ov3d_perception.doctor.dataset import Also, check_frames
from ov3d_perception.doctor.report import Finding, Report, Severity
from ov3d_perception.errors import BagError, DamagedBagError, DatasetError, NoPosesError, Ov3dError, PointCloudError
from ov3d_perception.read_ahead import read_ahead
from ov3d_perception.types import Frame

_log = logging.getLogger(__name__)
_CLOUDS = 8  # that are read for layout and density


@dataclass(frozen=True)
class Examination:
    """How a bag is looked at. points: topic of the clouds, "": /points or the only one; cameras: as the bag data set
    takes them; fixed_frame: in which the robot moves; tf: a second bag of TF, of ``ov3d bag odometry``; frames: how
    many the calibration is measured on, 0 for none; more: how many further ones, for cameras that those do not tell.
    """

    points: str = ""
    cameras: tuple[str, ...] = ()
    fixed_frame: str = "odom"
    tf: Path | None = None
    frames: int = 40
    more: int = 0
    base_frame: str = "base_link"


def examine(path: str | Path, how: Examination | None = None, also: Also | None = None) -> Report:
    """Look at a bag. Whatever is wrong with it is a finding; only a path without a bag raises BagError.

    also: a further check on the bag's frames, where it has a cloud and calibrated cameras.
    """
    path, how = Path(path), how or Examination()
    try:
        with open_bag(path) as bag:
            return Report.of(str(path), list(_findings(bag, path, how, also)))
    except BagError as error:
        if not path.exists():
            raise
        damaged = isinstance(error, DamagedBagError)
        why = "What follows the damage is lost" if damaged else "Nothing can be read"
        finding = Finding(Severity.ERROR, "storage", str(path), error.cause, why, error.remedy)
        return Report.of(str(path), [finding])


def _findings(bag: Bag, path: Path, how: Examination, also: Also | None) -> Iterator[Finding]:
    for note in bag.notes:
        yield Finding(Severity.WARNING, "storage", str(path), note, "Messages may be missing", "See docs/bags.md")
    yield from sensors.check_topics(bag)
    topic = _cloud_topic(bag, how.points)
    if isinstance(topic, Finding):
        yield topic
        return
    already = len(bag.notes)
    try:
        cloud = read_stream(bag, topic)
        tree = bag.transforms(of=topic)
        if how.tf is not None:
            with open_bag(how.tf) as more:
                more.fill(tree)
    except Ov3dError as error:
        yield Finding(Severity.ERROR, "clouds", topic, error.cause, "Nothing can be learned", error.remedy)
        return
    for note in bag.notes[already:]:
        yield Finding(Severity.WARNING, "transforms", "tf", note, "Poses of two passes are mixed", "Cut the bag there")
    clouds, unread = _clouds(bag, topic, cloud)
    yield from sensors.check_clouds(topic, clouds, unread)
    frame = clouds[0].scan.frame_id if clouds else ""
    if clouds and tree.moves_under(frame, how.base_frame):
        yield Finding(
            Severity.ERROR, "clouds", topic, registered(topic, frame, how.base_frame), "The network sees another world",
            "Name the LiDAR's own cloud: --points",
        )  # fmt: skip
    found = find_cameras(bag, tree, list(how.cameras) or None, frame or None)
    yield from sensors.check_cameras(found)
    images = [read_stream(bag, camera.images) for camera in found.cameras]
    moving = read_tf_stream(bag)
    yield from timing.check(cloud, images, [moving] if moving is not None else [], _middle(clouds))
    if clouds:
        yield from poses.check(tree, cloud, frame, how.fixed_frame)
    if (how.frames or also) and found.cameras and clouds:
        yield from _of_frames(path, topic, [camera.namespace for camera in found.cameras], frame, how, also)


def _cloud_topic(bag: Bag, wanted: str) -> str | Finding:
    try:
        return choose_cloud(bag, wanted)
    except DatasetError as error:
        subject = wanted or "clouds"
        return Finding(Severity.ERROR, "clouds", subject, error.cause, "Nothing can be learned", error.remedy)


def _clouds(bag: Bag, topic: str, stream: Stream) -> tuple[list[Cloud], list[str]]:
    """A few clouds over the bag, and why others of them could not be read."""
    reader, clouds, unread = CloudReader(period=stream.period_s), [], []
    numbers = np.unique(np.linspace(0, len(stream.received) - 1, _CLOUDS).astype(int))
    for received in stream.received[numbers].tolist():
        for message in bag.messages([topic], received, received + 1):
            try:
                clouds.append(reader.read(message.decode()))
            except PointCloudError as error:
                unread.append(error.cause)
    return clouds, unread


def _middle(clouds: Sequence[Cloud]) -> float | None:
    """Seconds from the stamp to the middle of a scan's points, where these have times."""
    found = [float(np.median(cloud.scan.time)) for cloud in clouds if cloud.scan.time is not None and len(cloud.scan)]
    return float(np.median(found)) if found else None


def _of_frames(
    path: Path, topic: str, cameras: list[str], frame: str, how: Examination, also: Also | None
) -> Iterator[Finding]:
    """What needs pixels and points together. Without poses the LiDAR's own frame is the world."""
    silent = logging.getLogger("ov3d_perception")
    level = silent.level
    silent.setLevel(logging.ERROR)  # what the data set warns of is found here
    try:
        source, moving = _source(path, topic, cameras, frame, how)
        chosen = np.unique(np.linspace(0, len(source) - 1, how.frames).astype(int))
        further = np.setdiff1d(np.linspace(0, len(source) - 1, how.more).astype(int), chosen)
        if how.frames:
            more = _read(source, further)  # if they are asked for
            yield from check_frames(list(_read(source, chosen)), topic, source.poses_at if moving else None, more)
        if also is not None:
            yield from also(source)
    except Ov3dError as error:
        yield Finding(Severity.ERROR, "frames", topic, error.cause, "No frame can be made of the bag", error.remedy)
    finally:
        silent.setLevel(level)


def _read(source: BagFrames, numbers: Int64[np.ndarray, " n"]) -> Iterator[Frame]:
    """Those of the frames that can be read, each while the one before is looked at."""

    def frames() -> Iterator[Frame]:
        own = copy(source)  # which opens the bag itself: a database is of one thread
        for number in numbers.tolist():
            try:
                yield own[number]
            except PointCloudError as error:
                _log.debug("frame %d: %s", number, error)

    yield from read_ahead(frames())


def _source(path: Path, topic: str, cameras: list[str], frame: str, how: Examination) -> tuple[BagFrames, bool]:
    try:
        return BagFrames(path, topic, cameras, fixed_frame=how.fixed_frame, tf=how.tf, base_frame=how.base_frame), True
    except NoPosesError:
        return BagFrames(path, topic, cameras, fixed_frame=frame, deskew=False, base_frame=how.base_frame), False
