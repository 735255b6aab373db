"""Which topics of a bag are cameras that can teach, which are not and why, and where each camera looks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import islice
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from ov3d_perception.bags.camera_info import camera_in_frame, fit_to_images
from ov3d_perception.bags.images import decode_image, encoding_of, is_depth
from ov3d_perception.bags.reader import Bag
from ov3d_perception.errors import CalibrationError, DatasetError, ImageError, Ov3dError, TransformError
from ov3d_perception.geometry.transform_tree import TransformTree
from ov3d_perception.types import Camera, Pose

Axes = Literal["auto", "optical", "body"]
CLOUD, INFO = "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/CameraInfo"
IMAGES = ("sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image")  # what training reads first
_TRIED = 10  # messages: drivers send empty images while they start
_TRANSPORTS = re.compile(r"/(compressed|compressedDepth)$")
_RECTIFIED = {"rect", "rectified", "rectify", "undistorted", "undistort", "undist"}
_MONO = {"mono", "gray", "grey"}
_PLAIN = {"image", "img", "raw", "color", "colour", "rgb", "bayer"} | _RECTIFIED | _MONO
_DERIVED = {"debug", "overlay", "annotated", "annotations", "visualization", "viz", "mask", "masks", "heatmap"}
_DERIVED |= {"labels", "segmentation", "semantic", "semantics", "instance", "detection", "detections", "confidence"}
_DERIVED |= {"colormap"}
_DISTANCES = {"depth", "disparity", "range"}
# Optical axes (x right, y down, z forward) in a body's (x forward, y left, z up), by REP 103.
OPTICAL_IN_BODY = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


@dataclass(frozen=True)
class BagCamera:
    """A camera of a bag. images, info: its topics; T_frame_camera: where it is in ``frame_id``, mostly the identity.

    chosen: why this image topic, "" where it is the only one; healed: what of the bag was not taken at its word.
    """

    namespace: str
    images: str
    info: str
    camera: Camera
    frame_id: str
    T_frame_camera: Pose
    chosen: str = ""
    healed: tuple[str, ...] = ()

    def __str__(self) -> str:
        lens = f"{self.camera.model} ({len(self.camera.distortion)} coefficients)"
        size = f"{self.camera.width} x {self.camera.height}"
        return f"{self.namespace or '/'}: {self.images}, {size}, {lens}, frame {self.frame_id}{self.chosen}"


@dataclass
class Found:
    """Cameras of a bag; image topics that are left out, with the reason; what keeps a camera from being used."""

    cameras: list[BagCamera] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"camera {camera}" for camera in self.cameras]
        lines += [f"  {camera.namespace}: {note}" for camera in self.cameras for note in camera.healed]
        lines += [f"no camera: {topic}: {reason}" for topic, reason in self.left_out.items()]
        return "\n".join(lines + [f"camera not usable: {problem}" for problem in self.problems])


@dataclass(frozen=True)
class _Images:
    """One stream of images: ``base`` is its topic without the transport, ``topics`` are those that carry it."""

    base: str
    topics: tuple[str, ...]
    first: Any

    def carried_by(self, topic: str) -> _Images:
        """Carried by this one topic only, if it is one of them."""
        return replace(self, topics=(topic,)) if topic in self.topics else self

    @property
    def namespace(self) -> str:
        return self.base.rpartition("/")[0]

    @property
    def words(self) -> set[str]:
        return _words(self.base.rpartition("/")[2])

    @property
    def rectified(self) -> bool:
        return bool(_RECTIFIED & (self.words | set(self.base.lower().split("/"))))

    @property
    def grey(self) -> bool:
        return bool(self.words & _MONO) or encoding_of(self.first).startswith(("mono", "8UC1"))

    @property
    def rank(self) -> tuple[bool, ...]:
        """Colour before grey, what the camera took before what was rectified, then by name."""
        return self.grey, self.rectified, "raw" not in self.words, not self.words & {"color", "colour", "rgb"}

    def no_picture(self) -> str:
        """Why these images show nothing to learn from, "" if they may."""
        if is_depth(self.first):
            return f"depth ({encoding_of(self.first) or self.first.format})"
        last = self.namespace.lower().rpartition("/")[2]
        # Some drivers send depth as mono16.
        named = _words(self.base) if encoding_of(self.first) == "mono16" else {*self.words, last}
        if _DISTANCES & named or last.startswith("aligned_depth"):
            return f"depth by its name, {encoding_of(self.first) or 'pictures'} by its encoding"
        derived = _DERIVED & (self.words | _words(last))
        return f"made from images, by its name ({', '.join(sorted(derived))})" if derived else ""


def find_cameras(
    bag: Bag,
    tree: TransformTree,
    wanted: Sequence[str] | None = None,
    lidar_frame: str | None = None,
    axes: Axes = "auto",
) -> Found:
    """The cameras of a bag, one a namespace.

    wanted: namespaces or image topics, with or without their first slash; None: every namespace that has pictures and a
    camera_info. lidar_frame: what the camera's frame must connect to in ``tree``. axes: how the cameras' frames lie;
    "auto": optical, and a frame that evidently has body axes is refused unless its optical frame is known. What keeps a
    camera from being used is told in ``Found.problems``. Raises BagError where the bag is damaged.
    """
    found, streams, infos = Found(), list(_streams(bag)), bag.topics_of(INFO)
    calibrated = [stream for stream in streams if _info_of(stream, infos)]
    namespaces = sorted({stream.namespace for stream in calibrated})
    for name in namespaces if wanted is None else [_in_full(name, streams) for name in wanted]:
        named = [s.carried_by(name) for s in streams if name in (s.namespace, s.base, *s.topics)]
        try:
            stream, chosen = _choose(named, found.left_out, all(name == s.namespace for s in named))
            if stream is not None:
                found.cameras.append(_camera(bag, tree, stream, chosen, infos, lidar_frame, axes))
            elif wanted is not None:
                there = ", ".join(f"{s.base}: {s.no_picture()}" for s in named) or "no images"
                pictures = ", ".join(s.base for s in streams if not s.no_picture()) or "none"
                raise DatasetError(f"No pictures there ({there})", f"Name one of those that the bag has: {pictures}")
        except Ov3dError as error:
            found.problems.append(f"{name or '/'}: {error}")
    if wanted is None:
        found.left_out |= {s.base: "no camera_info beside it" for s in streams if s not in calibrated}
        for info in infos:
            beside = info.rpartition("/")[0]
            if not any(beside in (stream.namespace, stream.base) for stream in streams):
                others = [
                    f"{t.name} ({t.msgtype}{'' if t.count else ', which holds no message'})"
                    for t in bag.topics.values()
                    if t.name.startswith(f"{beside}/")
                ]
                found.left_out[info] = f"no Image or CompressedImage beside it, only {', '.join(others)}"
    return found


def _in_full(name: str, streams: Sequence[_Images]) -> str:
    plain = name.rstrip("/")
    there = any(plain in (stream.namespace, stream.base, *stream.topics) for stream in streams)
    return plain if there or not plain else f"/{plain.lstrip('/')}"


def _streams(bag: Bag) -> Iterable[_Images]:
    topics: dict[str, list[str]] = {}
    for kind in IMAGES:
        for topic in bag.topics_of(kind):
            topics.setdefault(_TRANSPORTS.sub("", topic), []).append(topic)
    for base, carriers in sorted(topics.items()):
        most = max(bag.topics[topic].count for topic in carriers)
        carriers.sort(key=lambda topic: bag.topics[topic].count < 0.9 * most)  # stable: compressed first
        if (message := next(iter(bag.messages(carriers[:1])), None)) is not None:
            yield _Images(base, tuple(carriers), message.decode())


def _first(bag: Bag, topic: str) -> Any:
    for message in bag.messages([topic]):
        return message.decode()
    raise DatasetError(f"Topic {topic} has no message", "Record the bag anew")


def _choose(streams: list[_Images], left_out: dict[str, str], by_namespace: bool) -> tuple[_Images | None, str]:
    """The stream of a namespace to take, and why. Raises DatasetError where the names do not tell."""
    pictures = []
    for stream in streams:
        reason = stream.no_picture()
        if reason and by_namespace:
            left_out[stream.base] = reason
        else:
            pictures.append(stream)
    if len(pictures) < 2:
        return (pictures[0] if pictures else None), ""
    plain = sorted((s for s in pictures if s.words <= _PLAIN), key=lambda s: s.rank)
    if not plain or (len(plain) > 1 and plain[0].rank == plain[1].rank):
        names = [stream.base for stream in plain or pictures]
        raise DatasetError(f"Which of {', '.join(names)} to take is not clear", f"Name one: cameras=[{names[0]}]")
    taken = plain[0]
    for other in pictures:
        if other is not taken:
            left_out[other.base] = f"{taken.base} is taken (cameras=[{other.base}] takes this one)"
    colour, by = "grey" if taken.grey else "colour", "rectified: P" if taken.rectified else "unrectified: K and D"
    return taken, f"; the first of {len(pictures)} image topics by colour and rectification ({colour}, {by})"


def _info_of(stream: _Images, infos: Sequence[str]) -> str | None:
    """The camera_info beside a stream, None if there is none; of several that of rectified images for these."""
    beside = [info for info in infos if info.rpartition("/")[0] in (stream.namespace, stream.base)]
    rectified = [info for info in beside if _RECTIFIED & _words(info.rpartition("/")[2])]
    raw = [info for info in beside if info not in rectified]
    candidates = (rectified or raw) if stream.rectified else raw
    return min(candidates, key=len, default=None)


def _camera(
    bag: Bag,
    tree: TransformTree,
    stream: _Images,
    chosen: str,
    infos: Sequence[str],
    lidar_frame: str | None,
    axes: Axes,
) -> BagCamera:
    info_topic = _info_of(stream, infos)
    if info_topic is None:
        raise CalibrationError(f"There is no camera_info beside {stream.base}", "Record it together with the images")
    healed: list[str] = []
    info = _calibration(bag, info_topic, healed)
    topic, image = _first_picture(bag, stream)
    name = stream.namespace.strip("/").replace("/", "_") or "camera"
    size = (image.shape[1], image.shape[0])
    camera, note = fit_to_images(info, name, size, stream.rectified)
    healed += [note] if note else []
    frames = {"camera_info": info.header.frame_id, "the images": _first(bag, topic).header.frame_id}
    frame_id = _frame(tree, frames, info_topic, lidar_frame, axes, healed)
    T_frame_camera = camera_in_frame(info, stream.rectified, _first_of_pair(bag, info, info_topic, infos))
    if axes == "body":
        T_frame_camera = OPTICAL_IN_BODY @ T_frame_camera
    return BagCamera(stream.namespace, topic, info_topic, camera, frame_id, T_frame_camera, chosen, tuple(healed))


def _calibration(bag: Bag, topic: str, healed: list[str]) -> Any:
    """The camera_info that holds for the bag: its first message, or the first looked at that is calibrated.

    Raises CalibrationError where calibrations for images of one size differ: beginning, middle and end are looked at.
    """
    found = [_first(bag, topic)]
    for part in (0.05, 0.5, 0.95):
        found += [m.decode() for m in islice(bag.messages([topic], bag.start + int(part * (bag.end - bag.start))), 1)]
    calibrated = [info for info in found if info.k[0] > 0]
    if not calibrated:
        return found[0]
    info = calibrated[0]
    if info is not found[0]:
        healed.append(f"{topic} begins without a calibration (K is zero): a later message is taken")
    for later in calibrated[1:]:
        if (later.width, later.height) == (info.width, info.height) and (change := _change(info, later)):
            raise CalibrationError(
                f"{topic} changes in the bag: {change}", "Cut the bag where the lens or its calibration was changed"
            )
    return info


def _change(info: Any, later: Any) -> str:
    """What differs between two calibrations, "" where it is less than half a percent of the focal length."""
    if info.distortion_model != later.distortion_model or len(info.d) != len(later.d):
        return f"the lens is {info.distortion_model} ({len(info.d)}), then {later.distortion_model} ({len(later.d)})"
    for name, unit in (("k", info.k[0]), ("p", info.k[0]), ("d", 1.0), ("r", 1.0)):
        before, after = (np.asarray(getattr(message, name), np.float64) for message in (info, later))
        if not np.allclose(before, after, rtol=0, atol=0.005 * unit, equal_nan=True):
            return f"{name.upper()} is {before.round(4).tolist()}, then {after.round(4).tolist()}"
    return ""


def _first_picture(bag: Bag, stream: _Images) -> tuple[str, UInt8[np.ndarray, "h w 3"]]:
    """The first of the topics that carry a stream whose images can be read, and its first good image."""
    problems: list[Ov3dError] = []
    for topic in stream.topics:
        for message in islice(bag.messages([topic]), _TRIED):
            try:
                return topic, decode_image(message.decode())
            except ImageError as error:
                problems.append(error)
    raise problems[0]


def _first_of_pair(bag: Bag, info: Any, topic: str, infos: Sequence[str]) -> Any:
    """camera_info of the first camera of a stereo pair, whose frame this second one names; None if it is no such."""
    if not info.header.frame_id or not np.asarray(info.p)[[3, 7]].any() or info.p[0] <= 0 or info.p[5] <= 0:
        return None
    others = (_first(bag, other) for other in infos if other != topic)
    same = (other for other in others if other.header.frame_id == info.header.frame_id)
    return next((other for other in same if not np.asarray(other.p)[[3, 7]].any()), None)


def _frame(
    tree: TransformTree, frames: dict[str, str], topic: str, lidar_frame: str | None, axes: Axes, healed: list[str]
) -> str:
    """The camera's frame: that of camera_info, or of its images if that alone has a place in TF and optical axes."""
    named = {frame.strip("/"): None for frame in frames.values() if frame.strip("/")}
    if not named:
        raise TransformError(
            f"Neither {topic} nor its images have a frame_id", "Set the camera's optical frame (frame_id) in its driver"
        )
    problems = []
    for frame in named:
        try:
            _require_connected(tree, frame, topic, lidar_frame)
            taken = _optical(tree, frame, topic, healed) if axes == "auto" else frame
        except TransformError as error:
            problems.append(error)
            continue
        if len({name.strip("/") for name in frames.values()}) > 1:
            said = ", ".join(f"{source} '{name}'" for source, name in frames.items())
            healed.append(f"frame_id differs: {said}; '{frame}' is taken")
        return taken
    raise problems[0]


def _require_connected(tree: TransformTree, frame: str, topic: str, lidar_frame: str | None) -> None:
    if frame not in tree.frames:
        similar = get_close_matches(frame, tree.frames, 1)
        raise TransformError(
            f"Its frame '{frame}' is not in the bag's TF ({topic})",
            "Record /tf_static" + (f", or let the driver name '{similar[0]}' if that is the camera" if similar else ""),
        )
    lidar = (lidar_frame or "").strip("/")
    if lidar not in tree.frames or tree.root(frame) == tree.root(lidar):
        return
    root = tree.root(frame)
    raise TransformError(
        f"Its frame '{frame}' ({topic}) does not connect to the LiDAR's '{lidar}': its tree ends at '{root}', the "
        f"LiDAR's at '{tree.root(lidar)}'",
        f"Publish where '{root}' is on the robot (ros2 run tf2_ros static_transform_publisher --frame-id base_link "
        f"--child-frame-id {root} --x ...), and record /tf_static",
    )


def _optical(tree: TransformTree, frame: str, topic: str, healed: list[str]) -> str:
    """This frame; its optical frame if it evidently has body axes: z up in a tree whose root is level (REP 103)."""
    root = tree.root(frame)
    if "optical" in frame.lower() or "optical" in root.lower() or root == frame:
        return frame
    up = tree.lookup(root, frame)[2, :3]  # the root's z in the camera's axes
    pitched_body = up[2] > 0.2 and abs(up[1]) < 0.1  # as optical axes: an image on its side that looks up
    if up[2] < np.cos(np.pi / 4) and not pitched_body:
        return frame
    for child in tree.frames:
        if child != frame and tree.root(child) == root and tree.newest(frame, child) is None:
            T = tree.lookup(frame, child)
            if np.allclose(T[:3, :3], OPTICAL_IN_BODY[:3, :3], atol=0.02) and np.linalg.norm(T[:3, 3]) < 0.01:
                healed.append(f"frame '{frame}' has body axes: its optical frame '{child}' is taken (REP 103)")
                return child
    raise TransformError(
        f"Its frame '{frame}' ({topic}) has body axes (z up), where an image needs optical ones (REP 103: x right, "
        "y down, z forward)",
        "Let the driver name its optical frame; for this bag set camera_axes=body, which turns the frames of all its "
        "cameras, or camera_axes=optical if the camera does look up",
    )


def _words(name: str) -> set[str]:
    """The words of a name: of image_rect_color and imageRectColor the same."""
    return set(re.split(r"[^a-z0-9]+", re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()))
