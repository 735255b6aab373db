"""``map_node``: voxel features in, a semantic map that answers words out.

Topics, parameters and diagnostics are described in ``docs/nodes.md``.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import Trigger
from visualization_msgs.msg import MarkerArray

from ov3d_msgs.msg import FeatureBasis, FeatureCloud
from ov3d_msgs.srv import QueryText
from ov3d_perception.errors import TransformError
from ov3d_perception.geometry.poses import transform
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.mapping.map_words import MapWords
from ov3d_perception.mapping.session import MapSession, MapSettings
from ov3d_perception.networks.checkpoint_info import load_info, open_text
from ov3d_perception.ros import messages, parameters, qos
from ov3d_perception.ros.diagnostics import ERROR, STALE, WARN, DiagnosticsPublisher, Health
from ov3d_perception.ros.guard import GuardedCallbacks
from ov3d_perception.ros.map import messages as map_messages
from ov3d_perception.ros.map.answers import Answers
from ov3d_perception.ros.map.approach import ApproachService
from ov3d_perception.ros.map.costmap_filter import CostmapFilter
from ov3d_perception.ros.map.parameters import MapParameters
from ov3d_perception.ros.map.save_load import MapStorage, StorageParameters
from ov3d_perception.ros.map.standing_query import StandingQuery
from ov3d_perception.ros.navigation_parameters import NavigationParameters
from ov3d_perception.ros.run import run
from ov3d_perception.ros.transforms import listen
from ov3d_perception.ros.worker import NewestWorker

_TF_GRACE_S = 10.0
_NICE = 5  # gets a third of what lidar_node gets where both want a core: a scan labelled late is a scan dropped
_NO_MAP_FRAME = "A robot without localisation or SLAM has no map frame: set map_frame to odom"


class MapNode(GuardedCallbacks, Node):
    """Integration has a thread of its own, queries and publishing a callback group each, so none waits for another."""

    def __init__(self, **options: Any) -> None:
        super().__init__("map_node", **options)
        parameters.declare(self, MapParameters)
        parameters.declare(self, NavigationParameters)
        parameters.declare(self, StorageParameters)
        values = parameters.read(self, MapParameters)
        self._health = Health(f"{self.get_name()}: map", self.get_namespace())
        for counter in ("received", "integrated", "dropped", "refused", "queries", "failures"):
            self._health.count(counter, 0)
        self.session = MapSession(MapSettings(values.map_frame, values.voxel_size, values.max_voxels, values.eviction))
        self._last_arrival = time.monotonic()
        self._first_arrival: float | None = None
        self._told_integrated = False
        self._frame_id = ""
        self._shown = 0  # voxels of the map cloud published last
        self._load_words(values)
        self._transforms = listen(self, values.tf_cache)
        self._storage = MapStorage(self, self._health, self.session)
        self._worker = NewestWorker(self._integrate, values.queue, "integration")
        self._answers = Answers(self, self.session, self._transforms)
        self._create_interfaces(values)
        self._costmap_filter = CostmapFilter(self, self._health, self.session)
        self._standing_query = StandingQuery(self, self._health, self.session)
        self._approach = ApproachService(self, self._health, self._answers, self._transforms)

    def close(self) -> None:
        """End the worker; call before the node is destroyed."""
        self._worker.close()
        self._transforms.close()
        self._storage.close()

    def _create_interfaces(self, values: MapParameters) -> None:
        def group() -> MutuallyExclusiveCallbackGroup:
            return MutuallyExclusiveCallbackGroup()

        self._cloud_output = self.create_publisher(PointCloud2, "~/output/map", qos.OUTPUT)
        self._marker_output = self.create_publisher(MarkerArray, "~/output/markers", qos.LATCHED)
        self.create_subscription(FeatureBasis, "~/input/basis", self._on_basis, qos.LATCHED, callback_group=group())
        self.create_subscription(
            FeatureCloud, "~/input/features", self._on_features, qos.OUTPUT, callback_group=group()
        )
        self.create_service(QueryText, "~/query", self._on_query, callback_group=ReentrantCallbackGroup())
        self.create_service(Trigger, "~/clear", self._on_clear, callback_group=group())
        wall = Clock(clock_type=ClockType.STEADY_TIME)  # a map is shown while /clock stands still, too
        self.create_timer(values.publish_period, self._publish_map, callback_group=group(), clock=wall)
        self._diagnostics = DiagnosticsPublisher(self, self._health, self._refresh, values.diagnostics_period)

    def _load_words(self, values: MapParameters) -> None:
        """Words; without them the map still grows, and queries say what is wrong."""
        try:
            text = open_text(values.text, values.checkpoint_path)
            classes = LabelSet.load(values.vocabulary).prompts if values.vocabulary else {}
            of_network = load_info(values.checkpoint_path).vocabulary
            self.session.words = MapWords.of(text, classes or of_network, of_network)
        except Exception as error:  # not only Ov3dError: open_clip has errors of its own
            self.get_logger().error(f"No words. {self._health.fail('text', error)}")

    # -- features into the map ---------------------------------------------------------------------------------------

    def _on_basis(self, message: FeatureBasis) -> None:
        self.session.basis = messages.message_to_basis(message)

    def _on_features(self, message: FeatureCloud) -> None:
        self._health.count("received")
        self._last_arrival = time.monotonic()
        self._first_arrival = self._first_arrival or self._last_arrival
        self._frame_id = message.header.frame_id
        if self._worker.put(message):
            self._health.count("dropped")

    def _integrate(self, message: FeatureCloud) -> None:
        """One feature cloud, in the worker's thread. Never raises."""
        try:
            values = parameters.read(self, MapParameters)
            if self.session.map_of(message.basis_id, float(message.voxel_size)) is None:
                self._health.count("refused")
                self._health.set("basis", WARN, "Features came without their basis. Remap ~/input/basis.")
                return
            self._health.clear("basis")
            stamp = messages.stamp_to_ns(message.header.stamp)
            with self._health.timed("transform"):
                T_map_sensor = self._transforms.lookup(
                    values.map_frame, message.header.frame_id, stamp, values.tf_timeout
                )
            with self._health.timed("integrate"):
                centres, features = messages.message_to_features(message)
                sensor = transform(T_map_sensor, _sensor(message))[0] if values.clear_free_space else None
                self.session.integrate(
                    message.basis_id,
                    float(message.voxel_size),
                    transform(T_map_sensor, centres),
                    features,
                    stamp,
                    sensor,
                    values.max_age,
                )
            self._health.count("integrated")
            self._health.clear("features")
            if not self._told_integrated:
                self.get_logger().info(f"Features are integrated into the map now, in frame '{values.map_frame}'")
            self._told_integrated = True
        except Exception as error:  # a broken message must not end the thread
            self._health.count("refused")
            if isinstance(error, TransformError):
                error = TransformError(error.cause, f"{error.remedy}. {_NO_MAP_FRAME}")
            early = isinstance(error, TransformError) and self._is_early()
            text = self._health.fail("features", error, WARN if early else ERROR)
            if early:
                waiting = f"Waiting for TF, as usual at the start; features are not integrated yet: {error}"
                self.get_logger().info(waiting, once=True)
            else:
                self._told_integrated = False
                self.get_logger().error(f"Features were not integrated. {text}", throttle_duration_sec=5.0)

    def _is_early(self) -> bool:
        """Soon after the first features: transforms that are missing may be on their way."""
        return self._first_arrival is None or time.monotonic() - self._first_arrival < _TF_GRACE_S

    def _on_clear(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        count = self.session.clear()
        self._health.clear("features")
        response.success = True
        response.message = f"Forgot {count} voxels"
        return response

    # -- answers -----------------------------------------------------------------------------------------------------

    def _on_query(self, request: QueryText.Request, response: QueryText.Response) -> QueryText.Response:
        self._health.count("queries")
        with self._health.timed("query"):
            response.status, response.message, matches = self._answers.to(request)
        semantic_map = self.session.map
        response.header = messages.header(
            semantic_map.newest if semantic_map is not None else 0, self.session.settings.frame_id
        )
        response.matches = [map_messages.match_to_message(match) for match in matches]
        self._marker_output.publish(map_messages.markers(matches, response.header))
        return response

    def _publish_map(self) -> None:
        """The map cloud, an empty one after the map was cleared; nothing without a subscriber."""
        if self._cloud_output.get_subscription_count() == 0:
            return
        with self._health.timed("publish"):
            labelled = self.session.labelled()
            if labelled is not None:
                semantic_map, voxels, names = labelled
                stamp, self._shown = semantic_map.newest, len(voxels.centres)
            elif self._shown:
                voxels, names, stamp, self._shown = map_messages.EMPTY, (), self.get_clock().now().nanoseconds, 0
            else:
                return
            frame = self.session.settings.frame_id
            self._cloud_output.publish(map_messages.map_cloud(voxels, names, stamp, frame))

    def _refresh(self) -> None:
        """Bring the diagnostics' values up to date (called by the diagnostics' timer)."""
        health, semantic_map, values = self._health, self.session.map, parameters.read(self, MapParameters)
        health.value("voxels", len(semantic_map) if semantic_map is not None else 0)
        health.value("bound [voxels]", values.max_voxels)
        health.value("memory [MB]", f"{semantic_map.nbytes / 1e6:.1f}" if semantic_map is not None else "0")
        health.value("evicted", semantic_map.evicted if semantic_map is not None else 0)
        health.value("encoder", semantic_map.identity if semantic_map is not None else "none")
        health.value("TF age [s]", self._tf_age(values.map_frame))
        lost = self.session.realigned
        health.value("lost to another network", "nothing" if lost is None else f"{100 * lost:.1f} %")
        health.value("not answered yet", self.session.shortage(values.min_observations) or "nothing")
        waited = time.monotonic() - self._last_arrival
        if waited > values.stale_after:
            topic = self.resolve_topic_name("~/input/features")
            health.set(
                "input",
                STALE,
                f"No features on {topic} for {waited:.1f} s ({self.count_publishers(topic)} publishers). "
                "Start lidar_node, or remap ~/input/features.",
            )
        else:
            health.clear("input")

    def _tf_age(self, map_frame: str) -> str:
        """Seconds from the newest transform between sensor and map to now, as text."""
        if not self._frame_id:
            return "no features yet"
        newest = self._transforms.latest(map_frame, self._frame_id)
        if newest is None:
            return f"'{self._frame_id}' not connected to '{map_frame}'"
        return f"{(self.get_clock().now().nanoseconds - newest) * 1e-9:.3f}" if newest else "static"


def _sensor(message: FeatureCloud) -> np.ndarray:
    """Where the scan was taken from, (1, 3), in the message's frame."""
    return np.array([[message.sensor_origin.x, message.sensor_origin.y, message.sensor_origin.z]])


def main() -> None:
    """Entry point of the ``map_node`` executable."""
    run(MapNode, nice=_NICE)


if __name__ == "__main__":
    main()
