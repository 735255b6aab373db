"""``map_node``: voxel features in, a semantic map that answers words out.

Topics, parameters and diagnostics are described in ``docs/nodes.md``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
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
from ov3d_perception.errors import IdentityError, Ov3dError, TransformError, UnknownWordError
from ov3d_perception.geometry.poses import transform
from ov3d_perception.inference import open_text
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.language.vocabulary import TextSource, Vocabulary
from ov3d_perception.mapping.labels import MapLabels
from ov3d_perception.mapping.persistence import network_of
from ov3d_perception.mapping.query import Match, ask, known_classes
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.networks.checkpoint import load_info
from ov3d_perception.ros import map_messages, messages, parameters, qos
from ov3d_perception.ros.approach import ApproachService
from ov3d_perception.ros.costmap_filter import CostmapFilter, MapAccess
from ov3d_perception.ros.diagnostics import STALE, WARN, DiagnosticsPublisher, Health
from ov3d_perception.ros.map_parameters import MapParameters
from ov3d_perception.ros.map_storage import MapStorage, StorageParameters
from ov3d_perception.ros.navigation_parameters import NavigationParameters
from ov3d_perception.ros.run import run
from ov3d_perception.ros.standing_query import StandingQuery
from ov3d_perception.ros.transforms import listen, newest
from ov3d_perception.ros.worker import NewestWorker


class MapNode(Node):
    """Integration has a thread of its own, queries and publishing a callback group each, so none waits for another."""

    def __init__(self, **options: Any) -> None:
        super().__init__("map_node", **options)
        parameters.declare(self, MapParameters)
        parameters.declare(self, NavigationParameters)
        parameters.declare(self, StorageParameters)
        values = parameters.read(self, MapParameters)
        self._health = Health(f"{self.get_name()}: map", self.get_namespace())
        for counter in ("received", "integrated", "dropped", "refused", "queries"):
            self._health.count(counter, 0)
        self._lock = threading.Lock()  # guards the exchange of map and basis, not their content
        self._basis: messages.Basis | None = None
        self._map: SemanticMap | None = None
        self._labels: MapLabels | None = None
        self._map_basis_id = ""
        self._text: TextSource | None = None
        self._vocabulary: Vocabulary | None = None
        self._classes: dict[str, list[str]] = {}
        self._last_arrival = time.monotonic()
        self._frame_id = ""
        self._load_text(values)
        self._transforms = listen(self, values.tf_cache)
        self._storage = MapStorage(self, self._health, lambda: self._map, self._adopt)
        self._worker = NewestWorker(self._integrate, values.queue, "integration")
        self._create_interfaces(values)
        access = MapAccess(lambda: self._map, self._find, lambda: self._classes)
        self._costmap_filter = CostmapFilter(self, self._health, access)
        self._standing_query = StandingQuery(self, self._health, access)
        self._approach = ApproachService(self, self._health, access, self._answer, self._transforms)

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

    def _load_text(self, values: MapParameters) -> None:
        """Words; without them the map still grows, and queries say what is wrong."""
        try:
            self._text = open_text(values.text, values.checkpoint_path)
            classes = LabelSet.load(values.vocabulary).prompts if values.vocabulary else {}
            classes = classes or load_info(values.checkpoint_path).vocabulary
            self._classes = known_classes(classes, self._text)
            self._vocabulary = Vocabulary.from_words(self._classes, self._text)
        except Exception as error:  # not only Ov3dError: open_clip has errors of its own
            self.get_logger().error(f"No words. {self._health.fail('text', error)}")

    # -- features into the map ---------------------------------------------------------------------------------------

    def _on_basis(self, message: FeatureBasis) -> None:
        try:
            basis = messages.message_to_basis(message)
        except Ov3dError as error:
            self.get_logger().error(self._health.fail("basis", error))
            return
        self._health.clear("basis")
        with self._lock:
            self._basis = basis

    def _on_features(self, message: FeatureCloud) -> None:
        self._health.count("received")
        self._last_arrival = time.monotonic()
        self._frame_id = message.header.frame_id
        if self._worker.put(message):
            self._health.count("dropped")

    def _integrate(self, message: FeatureCloud) -> None:
        """One feature cloud, in the worker's thread. Never raises."""
        try:
            values = parameters.read(self, MapParameters)
            semantic_map = self._map_for(message, values)
            if semantic_map is None:
                self._health.count("refused")
                self._health.set("basis", WARN, "Features came without their basis. Remap ~/input/basis.")
                return
            stamp = messages.stamp_to_ns(message.header.stamp)
            with self._health.timed("transform"):
                T_map_sensor = self._transforms.lookup(
                    values.map_frame, message.header.frame_id, stamp, values.tf_timeout
                )
            with self._health.timed("integrate"):
                voxels = messages.message_to_features(message)
                centres = transform(T_map_sensor, voxels.centres)
                sensor = transform(T_map_sensor, _sensor(message))[0] if values.clear_free_space else None
                semantic_map.integrate(centres, voxels.features, stamp, sensor)
                if values.max_age > 0:
                    semantic_map.drop_older(semantic_map.newest - int(values.max_age * 1e9))
            self._health.count("integrated")
            self._health.clear("features")
        except Exception as error:  # a broken message must not end the thread
            self._health.count("refused")
            text = self._health.fail("features", error)
            self.get_logger().error(f"Features were not integrated. {text}", throttle_duration_sec=5.0)

    def _map_for(self, message: FeatureCloud, values: MapParameters) -> SemanticMap | None:
        """The map that these features belong in, made at the first of them; None while their basis has not come.

        Raises IdentityError for features of another network than the map's.
        """
        with self._lock:
            if self._map is not None:
                if message.basis_id != self._map_basis_id:
                    raise IdentityError(
                        f"The features come from another network (basis {message.basis_id[:12]}, "
                        f"{messages.message_to_identity(message.encoder)}) than the map's ({self._map_basis_id[:12]}, "
                        f"{self._map.identity})",
                        "Call ~/clear to start a new map, or bring back the former checkpoint",
                    )
                return self._map
            basis = self._basis
            if basis is None or basis.basis_id != message.basis_id:
                return None
            self._health.clear("basis")
            self._map = SemanticMap(
                values.voxel_size or float(message.voxel_size),
                basis.weights,
                basis.identity,
                basis.logit_scale,
                values.max_voxels,
                values.map_frame,
                eviction=values.eviction,
            )
            self._map_basis_id = basis.basis_id
            self.get_logger().info(f"New map in '{values.map_frame}', {self._map.voxel_size:.2f} m, {basis.identity}")
            return self._map

    def _adopt(self, semantic_map: SemanticMap) -> None:
        """Make it the map. Raises IdentityError if the present one, or the features to come, are of another network."""
        basis_id = network_of(semantic_map.head)
        with self._lock:
            basis = self._basis
            expected = self._map_basis_id if self._map is not None else basis.basis_id if basis else basis_id
            identity = self._map.identity if self._map is not None else basis.identity if basis else "unknown"
            if basis_id != expected:
                raise IdentityError(
                    f"The file's map was made by another network ({semantic_map.identity}, basis {basis_id[:12]}) than "
                    f"runs here ({identity}, basis {expected[:12]})",
                    "Bring back the checkpoint that it was made with, or ask the file itself: ov3d map query",
                )
            self._map, self._labels, self._map_basis_id = semantic_map, None, basis_id

    def _on_clear(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._lock:
            count = len(self._map) if self._map is not None else 0
            self._map = self._labels = None
        self._health.clear("features")
        response.success = True
        response.message = f"Forgot {count} voxels"
        return response

    # -- answers -----------------------------------------------------------------------------------------------------

    def _on_query(self, request: QueryText.Request, response: QueryText.Response) -> QueryText.Response:
        self._health.count("queries")
        with self._health.timed("query"):
            response.status, response.message, matches = self._answer(request)
        semantic_map = self._map
        response.header = messages.header(
            semantic_map.newest if semantic_map is not None else 0, self.get_parameter("map_frame").value
        )
        response.matches = [map_messages.match_to_message(match) for match in matches]
        self._marker_output.publish(map_messages.markers(matches, response.header))
        return response

    def _answer(self, request: QueryText.Request) -> tuple[int, str, list[Match]]:
        """(status, text for people, matches)."""
        values, semantic_map, text = parameters.read(self, MapParameters), self._map, self._text
        Response = QueryText.Response
        problem = map_messages.problem_of(request)
        if problem:
            return Response.BAD_REQUEST, problem, []
        if semantic_map is None or not len(semantic_map):
            return (
                Response.NO_MAP,
                "Nothing has been mapped yet. Drive on, or see /diagnostics for what hinders.",
                [],
            )
        if text is None:
            cause = "There is no text source. Set the parameter `text`; /diagnostics says what is wrong with it."
            return Response.UNKNOWN_WORD, cause, []
        try:
            T = newest(self._transforms, values.map_frame, request.position_frame) if request.position_frame else None
            query = map_messages.request_to_query(request, values, self._classes, T)
            matches = ask(semantic_map, query, text)
        except TransformError as error:
            return Response.BAD_REQUEST, str(error), []
        except UnknownWordError as error:
            return Response.UNKNOWN_WORD, str(error), []
        except IdentityError as error:
            return Response.IDENTITY_MISMATCH, str(error), []
        status = Response.OK if matches else Response.NOTHING_FOUND
        return status, map_messages.summary(query.words, matches), matches

    def _find(self, words: Sequence[str]) -> list[Match]:
        """All matches, with the node's own settings. Raises UnknownWordError, IdentityError."""
        values, semantic_map, text = parameters.read(self, MapParameters), self._map, self._text
        if text is None:
            raise UnknownWordError("There is no text source", "Set the parameter `text`")
        if semantic_map is None:
            return []
        request = QueryText.Request(words=list(words))
        return ask(semantic_map, map_messages.request_to_query(request, values, self._classes), text)

    def _publish_map(self) -> None:
        semantic_map, vocabulary = self._map, self._vocabulary
        if semantic_map is None or vocabulary is None or self._cloud_output.get_subscription_count() == 0:
            return
        try:
            with self._health.timed("publish"):
                if self._labels is None or self._labels.semantic_map is not semantic_map:
                    self._labels = MapLabels(semantic_map, vocabulary)
                labelled = self._labels.update()
                cloud = map_messages.map_cloud(labelled, vocabulary.names, semantic_map.newest, semantic_map.frame_id)
                self._cloud_output.publish(cloud)
            self._health.clear("publish")
        except Ov3dError as error:
            self.get_logger().error(self._health.fail("publish", error), throttle_duration_sec=10.0)

    def _refresh(self) -> None:
        """Bring the diagnostics' values up to date (called by the diagnostics' timer)."""
        health, semantic_map, values = self._health, self._map, parameters.read(self, MapParameters)
        health.value("voxels", len(semantic_map) if semantic_map is not None else 0)
        health.value("bound [voxels]", values.max_voxels)
        health.value("memory [MB]", f"{semantic_map.nbytes / 1e6:.1f}" if semantic_map is not None else "0")
        health.value("evicted", semantic_map.evicted if semantic_map is not None else 0)
        health.value("encoder", semantic_map.identity if semantic_map is not None else "none")
        health.value("TF age [s]", self._tf_age(values.map_frame))
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
    run(MapNode)


if __name__ == "__main__":
    main()
