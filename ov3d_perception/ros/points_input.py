"""lidar_node's input of points: PointCloud2, or a Livox driver's own message; and why nothing comes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeAlias

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2

from ov3d_perception.bags import livox
from ov3d_perception.bags.cameras import CLOUD
from ov3d_perception.errors import Ov3dError, PointCloudError
from ov3d_perception.ros import messages, qos

TOPIC = "~/input/points"
Points: TypeAlias = PointCloud2 | livox.LivoxCloud


class PointsInput:
    """Subscribes to the points as PointCloud2, until a driver is found to send another type that can be read.

    receive: called with each cloud, on an executor's thread. refuse: called with the error of one that cannot be read.
    """

    def __init__(self, node: Node, receive: Callable[[Points], None], refuse: Callable[[Ov3dError], None]) -> None:
        self._node, self._receive, self._refuse = node, receive, refuse
        self._group = MutuallyExclusiveCallbackGroup()
        self._subscription: Any = None
        self._type = CLOUD
        self._subscribe()

    def why_silent(self) -> str:
        """Why no scan comes, and what to do; listens to the publishers' type from now on, if it can be read.

        DDS knows a topic by one type only, so the subscription is replaced.
        """
        topic = self._node.resolve_topic_name(TOPIC)
        types = {publisher.topic_type for publisher in self._node.get_publishers_info_by_topic(topic)}
        self._follow(types)
        return reason_of_silence(topic, types)

    def _follow(self, types: Collection[str]) -> None:
        found = next((t for t in (CLOUD, *livox.TYPES) if t in types and is_readable(t)), self._type)
        if found != self._type and self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
        self._type = found
        if self._subscription is None:
            try:
                self._subscribe()
            except Exception as error:  # the former subscription may be in use yet: the next time
                self._node.get_logger().debug(f"Not listening as {found} yet: {error}")
            else:
                self._node.get_logger().info(f"Listening to points as {found}")

    def _subscribe(self) -> None:
        raw = self._type != CLOUD
        self._subscription = self._node.create_subscription(
            messages.message_class(self._type),
            TOPIC,
            self._on_livox if raw else self._receive,
            qos.SENSOR,
            callback_group=self._group,
            raw=raw,
        )

    def _on_livox(self, data: bytes) -> None:
        try:
            cloud = livox.livox_cloud(data)
        except PointCloudError as error:
            self._refuse(error)
        else:
            self._receive(cloud)


def is_readable(msgtype: str) -> bool:
    """Whether clouds of this type can be received: known to us, and its package installed."""
    return msgtype in (CLOUD, *livox.TYPES) and messages.message_class(msgtype) is not None


def reason_of_silence(topic: str, types: Collection[str]) -> str:
    """Why no scan comes, and what to do. types: of the topic's publishers."""
    if not types:
        return f"Nobody publishes {topic}: start the driver, or remap {TOPIC}"
    if any(map(is_readable, types)):
        return f"{topic} has a publisher that sends nothing: look at the driver's log and the sensor's cable"
    found = ", ".join(sorted(types))
    remedy = "let its driver convert it"
    if packages := [msgtype.split("/")[0] for msgtype in types if msgtype in livox.TYPES]:
        source = f"source the workspace that holds {packages[0]} before this node starts"
        remedy = f"{source}, or set xfer_format: 0 in the Livox driver"
    return f"{topic} is published as {found}, not as {CLOUD}: {remedy}, or remap {TOPIC}"
