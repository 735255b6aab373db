"""A node that keeps what the nodes publish: labelled clouds, the map, diagnostics. For the demo and for checks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import OccupancyGrid
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2
from vision_msgs.msg import LabelInfo

from ov3d_perception.bags.pointcloud2 import structured
from ov3d_perception.demo.score import LabelledScan
from ov3d_perception.ros import names, qos
from ov3d_perception.ros.messages import stamp_to_ns


class Listener:
    """Collects in the background from construction to :meth:`close`; rclpy must be initialised.

    scans: labelled clouds in order of arrival. classes: names by class id, empty until the LiDAR node is active.
    map_cloud: the newest map (structured array), None so far; mask: the newest mask of the costmap filter, likewise.
    status: diagnostics by name, key and value.
    """

    def __init__(self) -> None:
        self.scans: list[LabelledScan] = []
        self.classes: list[str] = []
        self.map_cloud: np.ndarray | None = None
        self.mask: OccupancyGrid | None = None
        self.status: dict[str, dict[str, str]] = {}
        self._changed = threading.Condition()
        self._node = rclpy.create_node("ov3d_listener", namespace=names.robot())
        reliable = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
        subscribe = self._node.create_subscription
        subscribe(PointCloud2, names.LABELLED_POINTS, self._noting(self._on_scan), reliable)
        subscribe(LabelInfo, names.LABEL_INFO, self._noting(self._on_labels), qos.LATCHED)
        subscribe(PointCloud2, names.MAP_CLOUD, self._noting(self._on_map), reliable)
        subscribe(OccupancyGrid, names.COSTMAP_MASK, self._noting(self._on_mask), qos.LATCHED)
        subscribe(DiagnosticArray, "/diagnostics", self._noting(self._on_status), reliable)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        """True as soon as ``condition`` holds, False after ``seconds``."""
        with self._changed:
            return self._changed.wait_for(condition, seconds)

    def close(self) -> None:
        """Stop collecting."""
        self._executor.shutdown()
        self._thread.join(5.0)
        self._node.destroy_node()

    def _noting(self, handle: Callable[[Any], None]) -> Callable[[Any], None]:
        def callback(message: Any) -> None:
            with self._changed:
                handle(message)
                self._changed.notify_all()

        return callback

    def _on_scan(self, message: PointCloud2) -> None:
        points = structured(message)
        xyz = np.stack([points[axis] for axis in "xyz"], 1)
        label, probability = points["label"].astype(np.int32), points["probability"].copy()
        self.scans.append(LabelledScan(stamp_to_ns(message.header.stamp), xyz, label, probability))

    def _on_labels(self, message: LabelInfo) -> None:
        self.classes = [entry.class_name for entry in message.class_map]

    def _on_map(self, message: PointCloud2) -> None:
        self.map_cloud = structured(message).copy()

    def _on_mask(self, message: OccupancyGrid) -> None:
        self.mask = message

    def _on_status(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {entry.key: entry.value for entry in status.values}
            self.status[status.name] = {"message": status.message, **values}
