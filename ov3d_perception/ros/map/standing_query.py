"""A standing query: asked again whenever the map has changed, so that its answer can be watched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray

from ov3d_perception.bags.pointcloud2 import pack_rgb
from ov3d_perception.mapping.query import Match
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.mapping.session import MapSession
from ov3d_perception.ros import messages, parameters, qos
from ov3d_perception.ros.diagnostics import Health
from ov3d_perception.ros.map import messages as map_messages
from ov3d_perception.ros.map.parameters import MapParameters
from ov3d_perception.viz.palette import colour


class StandingQuery:
    """Takes words from ``~/input/standing_query`` (with commas between; none: stop) or the parameter of that name."""

    def __init__(self, node: Node, health: Health, session: MapSession) -> None:
        self._node, self._health, self._session = node, health, session
        values = parameters.read(node, MapParameters)
        self._given: str | None = None
        self._answered: tuple[object, ...] = ()
        self._markers = node.create_publisher(MarkerArray, "~/output/answers", qos.LATCHED)
        self._cloud = node.create_publisher(PointCloud2, "~/output/answer_points", qos.LATCHED)
        group, wall = MutuallyExclusiveCallbackGroup(), Clock(clock_type=ClockType.STEADY_TIME)
        node.create_subscription(String, "~/input/standing_query", self._on_words, qos.OUTPUT, callback_group=group)
        node.create_timer(values.publish_period, self.update, callback_group=group, clock=wall)

    def update(self) -> None:
        """Ask, if the map or the words have changed. Never raises: errors are on /diagnostics."""
        given = parameters.read(self._node, MapParameters).standing_query if self._given is None else self._given
        words = [word.strip() for word in given.split(",") if word.strip()]
        semantic_map = self._session.map
        of = (tuple(words), semantic_map, semantic_map.revision if semantic_map is not None else 0)
        if of == self._answered or (not words and not self._answered):
            return
        self._answered = of if words else ()
        try:
            with self._health.timed("standing query"):
                query = replace(parameters.read(self._node, MapParameters).query(), words=tuple(words))
                matches = list(self._session.ask(query).matches) if words and semantic_map is not None else []
                self._publish(matches, semantic_map)
            self._health.clear("standing query")
        except Exception as error:  # a query may fail in its libraries, too, and the timer must go on
            text = self._health.fail("standing query", error)
            self._node.get_logger().error(f"The standing query was not answered. {text}", throttle_duration_sec=10.0)

    def _on_words(self, message: String) -> None:
        self._given = message.data
        self.update()

    def _publish(self, matches: list[Match], semantic_map: SemanticMap | None) -> None:
        stamp = semantic_map.newest if semantic_map is not None else 0
        frame = self._node.get_parameter("map_frame").value
        self._markers.publish(map_messages.markers(matches, messages.header(stamp, frame)))
        columns = _columns(matches, semantic_map)
        self._cloud.publish(messages.point_cloud(columns, stamp, frame))


def _columns(matches: list[Match], semantic_map: SemanticMap | None) -> dict[str, np.ndarray]:
    """x y z, the number of the match, its score, and its word's colour, for each voxel of the matches."""
    centres, number = np.zeros((0, 3), np.float32), np.zeros(0, np.int64)
    if matches and semantic_map is not None:
        centres = np.concatenate([semantic_map.centres(match.keys) for match in matches])
        number = np.repeat(np.arange(len(matches)), [match.count for match in matches])
    scores = np.array([match.score for match in matches], np.float32)
    colours = np.array([colour(match.word) for match in matches], np.uint8).reshape(-1, 3)
    x, y, z = centres.T
    return {
        "x": x,
        "y": y,
        "z": z,
        "match": number.astype(np.uint16),
        "score": scores[number],
        "rgb": pack_rgb(colours[number]),
    }
