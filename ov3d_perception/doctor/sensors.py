"""What the LiDAR and the cameras send: layout, point times, density; pictures that are dark or frozen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ov3d_perception.bags.cameras import CLOUD, IMAGES, Found
from ov3d_perception.bags.cloud_reader import describe, faults
from ov3d_perception.bags.pointcloud2 import Cloud
from ov3d_perception.bags.reader import Bag
from ov3d_perception.doctor.report import Finding, Severity
from ov3d_perception.geometry.association import associate
from ov3d_perception.types import Frame, Scan

VIDEO = {
    "theora_image_transport/msg/Packet": "theora",
    "ffmpeg_image_transport_msgs/msg/FFMPEGPacket": "ffmpeg",
    "foxglove_msgs/msg/CompressedVideo": "video",
}
PERSON, CAR = 0.5 * 1.7, 1.8 * 1.5  # square metres, seen from the side and from behind
DISTANCES = (10, 20, 40)  # metres
_FEW = 10  # points on a person at 10 m: below, pieces are not told from poles
_BAND = np.radians([-10.0, 2.0])  # where persons and cars stand, for a LiDAR at a robot's height
_DARK, _FLAT = 12, 4  # grey levels: mean and spread of a picture that shows nothing
_DEAD = 0.5  # share of the pictures
_SEEN = 0.001  # share of the points that fall into a camera that sees the LiDAR's world


def check_topics(bag: Bag) -> Iterator[Finding]:
    """Images in transports that are not read, and latched topics that are not."""
    pictures = set(bag.topics_of(*IMAGES))
    for topic in bag.topics.values():
        if topic.msgtype in VIDEO and topic.name.rpartition("/")[0] not in {
            name.rpartition("/")[0] for name in pictures
        }:
            yield Finding(
                Severity.WARNING, "transport", topic.name, f"images in {VIDEO[topic.msgtype]} alone ({topic.msgtype})",
                "They are not read: a frame depends on those before it",
                "Record the `compressed` transport (JPEG), or republish: ros2 run image_transport republish",
            )  # fmt: skip
        volatile = topic.qos and all(profile.durability.name == "VOLATILE" for profile in topic.qos)
        if topic.name.endswith("tf_static") and volatile:
            yield Finding(
                Severity.WARNING, "qos", topic.name, "recorded and offered as volatile",
                "A subscriber that comes later never gets the static transforms",
                "Publish /tf_static with durability transient_local (tf2_ros' StaticTransformBroadcaster does); "
                "`ov3d bag repair` latches a recorded one",
            )  # fmt: skip
    if not bag.topics_of(CLOUD) and not any("livox" in topic.msgtype.lower() for topic in bag.topics.values()):
        return
    if not pictures:
        yield Finding(
            Severity.ERROR, "cameras", "images", "no image topic", "Without images there is no teacher",
            "Record a camera: sensor_msgs/Image or CompressedImage, with its camera_info",
        )  # fmt: skip


def check_cameras(found: Found) -> Iterator[Finding]:
    """What find_cameras says, as findings."""
    for camera in found.cameras:
        for note in camera.healed:
            yield Finding(
                Severity.WARNING, "camera_info", camera.namespace, note, "It was healed by a guess",
                "Correct the driver's camera_info",
            )  # fmt: skip
        yield Finding(Severity.GOOD, "camera_info", camera.namespace, str(camera))
    for topic, reason in found.left_out.items():
        if "no camera_info" in reason:
            yield Finding(
                Severity.WARNING, "camera_info", topic, reason, "Its pixels have no rays: the camera teaches nothing",
                "Record its camera_info, in the same namespace",
            )  # fmt: skip
        elif "only" in reason:
            yield Finding(
                Severity.WARNING, "camera_info", topic, reason, "A calibration without pictures teaches nothing",
                "Record the images, too",
            )  # fmt: skip
    for problem in found.problems:
        cause, _, remedy = problem.rpartition(". ")
        yield Finding(
            Severity.ERROR, "camera_info", problem.partition(":")[0], cause or problem, "The camera cannot be used",
            remedy or "See docs/trouble.md",
        )  # fmt: skip


def check_clouds(topic: str, clouds: Sequence[Cloud], unread: Sequence[str]) -> Iterator[Finding]:
    """clouds: some of those of the topic; unread: why others could not be read."""
    if unread:
        yield Finding(
            Severity.WARNING if clouds else Severity.ERROR, "clouds", topic,
            f"{len(unread)} of {len(unread) + len(clouds)} clouds cannot be read: {unread[0]}", "They are left out",
            "Look at the driver's output",
        )  # fmt: skip
    if not clouds:
        return
    said = {kind: text for cloud in clouds for kind, text in faults(cloud).items()}
    for kind, text in said.items():
        yield Finding(
            Severity.WARNING, f"clouds/{kind}", topic, text, "Points are dropped, or stay where the motion put them",
            "Correct the driver, or see docs/trouble.md",
        )  # fmt: skip
    middle = clouds[len(clouds) // 2]
    if middle.times is None and not middle.unread_time:
        yield Finding(
            Severity.UNKNOWN, "clouds/times", topic, "no point times: whether the driver de-skews cannot be told",
            "At 10 m/s a scan of 0.1 s is bent by a metre", "If it does not, let it send a time for each point",
        )  # fmt: skip
    yield Finding(Severity.GOOD, "clouds", topic, describe(middle))
    yield from check_density(topic, middle.scan)


def points_on(scan: Scan, square_metres: float, metres: float) -> float:
    """How many points a thing of this size gets at that distance, by the scan's density near the horizon."""
    distance = np.linalg.norm(scan.xyz, axis=1)
    elevation = np.arcsin(scan.xyz[:, 2] / np.maximum(distance, 1e-3))
    inside = (distance > 1) & (elevation > _BAND[0]) & (elevation < _BAND[1])
    if not inside.any():
        return 0.0
    columns = np.unique(np.floor(np.degrees(np.arctan2(scan.xyz[inside, 1], scan.xyz[inside, 0]))))
    steradians = np.radians(len(columns)) * float(np.sin(_BAND[1]) - np.sin(_BAND[0]))
    return float(inside.sum() / steradians * square_metres / metres**2)


def check_density(topic: str, scan: Scan) -> Iterator[Finding]:
    """How many points a person and a car get; a warning where persons are hardly seen."""
    level = scan if scan.R_upright is None else Scan((scan.xyz @ scan.R_upright.T).astype(np.float32), scan.intensity)
    person, car = ([points_on(level, size, metres) for metres in DISTANCES] for size in (PERSON, CAR))
    what = "; ".join(
        f"at {metres} m a person gets {few:.0f} points, a car {many:.0f}"
        for metres, few, many in zip(DISTANCES, person, car, strict=True)
    )
    figures: dict[str, Any] = {"distance_m": DISTANCES, "person": person, "car": car}
    if person[0] < _FEW:
        yield Finding(
            Severity.WARNING, "density", topic, what, "Persons and poles are hardly seen, and not told apart",
            "Merge sweeps (sweeps=3), drive slowly, or use a denser LiDAR", figures,
        )  # fmt: skip
    else:
        yield Finding(Severity.GOOD, "density", topic, what, figures=figures)


def check_pictures(frames: Sequence[Frame]) -> Iterator[Finding]:
    """Pictures that show nothing, cameras that stand still while the robot does not, cameras that see no point."""
    pictures: dict[str, list[np.ndarray]] = {}
    points: dict[str, list[float]] = {}
    for frame in frames:
        pairs = associate(frame)
        for number, view in enumerate(frame.views):
            pictures.setdefault(view.camera.name, []).append(view.image)
            seen = float((pairs.camera == number).sum()) / max(len(frame.sweeps[0].scan), 1)
            points.setdefault(view.camera.name, []).append(seen)
    for name, images in pictures.items():
        yield from _of_camera(name, images, float(np.mean(points[name])))


def _of_camera(name: str, images: list[np.ndarray], seen: float) -> Iterator[Finding]:
    blind = float(np.mean([image.std() < _FLAT or image.mean() < _DARK for image in images]))
    frozen = len(images) > 1 and all(np.array_equal(images[0], image) for image in images[1:])
    if blind > _DEAD:
        yield Finding(
            Severity.ERROR, "pictures", name, f"{blind:.0%} of the pictures are dark or of one colour",
            "The teacher sees nothing, and teaches it", "Look at lens cap, exposure and cable; or leave the camera out",
        )  # fmt: skip
    elif frozen:
        yield Finding(
            Severity.ERROR, "pictures", name, f"all {len(images)} pictures looked at are the same",
            "A frozen camera paints every place with one picture", "Restart its driver; leave the camera out",
        )  # fmt: skip
    elif blind > 0.05:
        yield Finding(
            Severity.WARNING, "pictures", name, f"{blind:.0%} of the pictures are dark or of one colour",
            "They teach nothing", "Look at exposure and cable",
        )  # fmt: skip
    if seen < _SEEN:
        yield Finding(
            Severity.ERROR, "points in view", name, f"{seen:.2%} of the points fall into its pictures",
            "A camera turned away from the LiDAR's world teaches nothing, one with a wrong transform teaches wrongly",
            "Look at its static transform: an image needs optical axes (REP 103: x right, y down, z forward)",
        )  # fmt: skip
    else:
        what = f"{seen:.1%} of the points fall into its pictures"
        yield Finding(Severity.GOOD, "points in view", name, what, figures={"share": seen})
