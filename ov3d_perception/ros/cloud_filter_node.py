"""``cloud_filter_node``: of lidar_node's labelled cloud, what stands above the ground, for Nav2's obstacle layers.

Stamp and frame are the sensor's, and the points' bytes are not touched. Described in ``docs/navigation.md``.
"""

from __future__ import annotations

import array
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Bool
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from vision_msgs.msg import LabelInfo

from ov3d_perception.bags.pointcloud2 import structured, vocabulary_id
from ov3d_perception.errors import PointCloudError, TransformError
from ov3d_perception.geometry.upright import Upright, upright_points
from ov3d_perception.mapping.navigation.obstacles import ObstacleRule, obstacles, unknown_words
from ov3d_perception.ros import messages, parameters, qos
from ov3d_perception.ros.diagnostics import ERROR, STALE, WARN, DiagnosticsPublisher, Health
from ov3d_perception.ros.guard import GuardedCallbacks
from ov3d_perception.ros.parameters import parameter
from ov3d_perception.ros.run import run
from ov3d_perception.ros.transforms import listen
from ov3d_perception.types import Scan

_VOCABULARIES = 8  # that are remembered; clouds labelled before a change of words are on their way for a moment only


@dataclass(frozen=True)
class CloudFilterParameters:
    """Which points to pass on."""

    keep: tuple[str, ...] = parameter(
        (), "Classes whose points are passed on; empty: all, unlabelled points included; ground: all kinds of ground"
    )
    drop: tuple[str, ...] = parameter(
        (), "Classes whose points are not passed on; counts more than keep; ground: all kinds of ground"
    )
    min_probability: float = parameter(
        0.0, "Points labelled with less than this are taken for unlabelled", minimum=0.0, maximum=1.0
    )
    min_height: float = parameter(
        0.1, "Points lower than this above the ground are not passed on [m]", minimum=-100.0, maximum=100.0
    )
    min_height_of_ground: float = parameter(
        0.2, "The same for points labelled road, grass or another kind of ground [m]", minimum=-100.0, maximum=100.0
    )
    max_height: float = parameter(
        2.0, "Points higher than this above the ground are not passed on [m]", minimum=-100.0, maximum=100.0
    )
    max_range: float = parameter(
        50.0, "Points farther than this from the sensor, in x or y, are not passed on [m]", minimum=1.0, maximum=500.0
    )
    base_frame: str = parameter("base_link", "Frame of the robot with z up, by which a tilted LiDAR's ground is found")
    stale_after: float = parameter(
        2.0, "Diagnostics turn STALE when no cloud has come for this long [s]", minimum=0.1, maximum=3600.0
    )
    diagnostics_period: float = parameter(
        1.0, "Time between two messages on /diagnostics [s]", minimum=0.05, maximum=60.0, read_only=True
    )

    @property
    def rule(self) -> ObstacleRule:
        """What decides about a point."""
        own = {field.name for field in fields(ObstacleRule)}
        return ObstacleRule(**{name: value for name, value in asdict(self).items() if name in own})


class CloudFilterNode(GuardedCallbacks, Node):
    """One callback: a cloud comes, the chosen part of it goes."""

    def __init__(self, **options: Any) -> None:
        super().__init__("cloud_filter_node", **options)
        parameters.declare(self, CloudFilterParameters)
        self._health = Health(f"{self.get_name()}: filter", self.get_namespace())
        for counter in ("received", "refused"):
            self._health.count(counter, 0)
        self._transforms = listen(self, 10.0)
        self._names: OrderedDict[int, list[str]] = OrderedDict()  # by vocabulary_id, the newest last
        self._last_arrival = time.monotonic()
        group = MutuallyExclusiveCallbackGroup()
        self._output = self.create_publisher(PointCloud2, "~/output/points", qos.OUTPUT)
        self.create_subscription(
            LabelInfo, "~/input/label_info", self._on_label_info, qos.LATCHED, callback_group=group
        )
        self.create_subscription(PointCloud2, "~/input/labelled", self._on_points, qos.SENSOR, callback_group=group)
        period = parameters.read(self, CloudFilterParameters).diagnostics_period
        self._diagnostics = DiagnosticsPublisher(self, self._health, self._refresh, period)

    def close(self) -> None:
        """Nothing to end: the node has no threads of its own."""

    def _on_label_info(self, message: LabelInfo) -> None:
        by_id = {int(entry.class_id): entry.class_name for entry in message.class_map}
        names = [by_id.get(number, "") for number in range(max(by_id, default=-1) + 1)]
        self._names.pop(vocabulary_id(names), None)
        self._names[vocabulary_id(names)] = names
        if len(self._names) > _VOCABULARIES:
            self._names.popitem(last=False)
        self._health.value("classes", len(by_id))

    def _on_points(self, message: PointCloud2) -> None:
        self._health.count("received")
        self._last_arrival = time.monotonic()
        values = parameters.read(self, CloudFilterParameters)
        try:
            points = structured(message)
            names = self._names_of(points)
            if names is None or not self._knows_words(values, names):
                self._health.count("refused")
                return
            with self._health.timed("filter"):
                whole = points.view(np.dtype((np.void, message.point_step)))  # with the bytes between the fields
                kept = whole[self._chosen(message, points, names, values)]
                self._output.publish(with_points(message, kept))
            self._health.value("points kept", f"{len(kept)} of {len(points)}")
            self._health.clear("points")
        except PointCloudError as error:
            self._health.count("refused")
            text = self._health.fail("points", error)
            self.get_logger().error(f"A cloud was not passed on. {text}", throttle_duration_sec=5.0)

    def _chosen(
        self, message: PointCloud2, points: np.ndarray, names: Sequence[str], values: CloudFilterParameters
    ) -> Bool[np.ndarray, " n"]:
        """True for each point to pass on. Raises PointCloudError for a cloud without labels."""
        if not {"x", "y", "z", "label", "probability"} <= set(points.dtype.names or ()):
            raise PointCloudError(
                f"The cloud's fields are {points.dtype.names}, without x, y, z, label and probability",
                "Remap ~/input/labelled to lidar_node's output",
            )
        xyz = np.stack([points[axis] for axis in "xyz"], 1).astype(np.float32)
        stamp = messages.stamp_to_ns(message.header.stamp)
        scan = Scan(xyz, np.zeros(len(xyz), np.float32), stamp, message.header.frame_id)
        try:
            scan, how = Upright("base", values.base_frame).apply(scan, self._transforms.lookup)
            self._health.clear("upright")
        except TransformError as error:
            how = f"as it came: {error.cause}"
            self._health.fail("upright", error, WARN)
        self._health.value("upright", how)
        return obstacles(values.rule, names, upright_points(scan), points["label"], points["probability"])

    def _names_of(self, points: np.ndarray) -> Sequence[str] | None:
        """The names that the cloud's labels stand for; None, and a warning, as long as they have not come.

        Names are latched, but a cloud may overtake them, or have been labelled before a change of words. A cloud of
        another program, without ``vocabulary``, is taken to be labelled in the newest names.
        """
        if not self._names:
            self._health.set("labels", WARN, "Clouds came without names of their classes. Remap ~/input/label_info.")
            return None
        newest = next(reversed(self._names.values()))
        says = "vocabulary" in (points.dtype.names or ()) and len(points) > 0
        found = self._names.get(int(points["vocabulary"][0])) if says else newest
        if found is None:
            self._health.set(
                "labels",
                WARN,
                "A cloud was labelled in other words than ~/input/label_info has named, and was not passed on. If this "
                "stays, remap ~/input/label_info and ~/input/labelled to outputs of one node.",
            )
        else:
            self._health.clear("labels")
        return found

    def _knows_words(self, values: CloudFilterParameters, names: Sequence[str]) -> bool:
        """False where a word of ``drop`` names no class: what it was to leave out would be passed on as an obstacle."""
        keep, drop = unknown_words(values.keep, names), unknown_words(values.drop, names)
        if not keep and not drop:
            self._health.clear("words")
            return True
        effect = f"Nothing is passed on, since {', '.join(drop)} cannot be left out" if drop else "It has no effect"
        self._health.set(
            "words",
            ERROR if drop else WARN,
            f"No class of the cloud is called {', '.join([*drop, *keep])}. {effect}. Correct keep or drop to its "
            f"classes ({', '.join(names)}) or to ground, or have it labelled with others: ov3d vocabulary WORD ...",
        )
        return not drop

    def _refresh(self) -> None:
        values = parameters.read(self, CloudFilterParameters)
        if self._names:
            self._knows_words(values, next(reversed(self._names.values())))
        waited = time.monotonic() - self._last_arrival
        if waited > values.stale_after:
            topic = self.resolve_topic_name("~/input/labelled")
            cause = f"No cloud on {topic} for {waited:.1f} s ({self.count_publishers(topic)} publishers)"
            self._health.set("input", STALE, f"{cause}. Start lidar_node, or remap ~/input/labelled.")
        else:
            self._health.clear("input")


def with_points(message: PointCloud2, points: np.ndarray) -> PointCloud2:
    """The message with these of its points only, unorganised; header, fields and bytes of a point stay."""
    result = PointCloud2(
        header=message.header,
        height=1,
        width=len(points),
        fields=message.fields,
        is_bigendian=message.is_bigendian,
        point_step=message.point_step,
        row_step=message.point_step * len(points),
        is_dense=message.is_dense,
    )
    result.data = array.array("B", points.tobytes())
    return result


def main() -> None:
    """Entry point of the ``cloud_filter_node`` executable."""
    run(CloudFilterNode)


if __name__ == "__main__":
    main()
