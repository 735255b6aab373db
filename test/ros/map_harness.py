"""What live tests of map_node share: a small world in four words, and the other end of the node's topics."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from ros_harness import Inbox, Probe, transform_stamped, values_of
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from ov3d_msgs.msg import FeatureBasis, FeatureCloud
from ov3d_msgs.srv import QueryText
from ov3d_perception.geometry.voxels import voxel_coordinates
from ov3d_perception.mapping.basis import Basis
from ov3d_perception.ros import messages, qos
from ov3d_perception.types import EncoderIdentity, Scan, VoxelFeatures

IDENTITY = EncoderIdentity("tiny", "test", 4)
WORDS = ("car", "tree", "road", "giraffe")
VOXEL = 0.2


def block(corner: tuple[float, float, float], shape: tuple[int, int, int]) -> np.ndarray:
    return ((np.indices(shape).reshape(3, -1).T + 0.5) * VOXEL + corner).astype(np.float32)


class Mapper:
    """What lidar_node and the odometry say to a map_node, and what its user asks."""

    def __init__(self, probe: Probe, diagnostics: Inbox, name: str) -> None:
        self.probe = probe
        self.name = name
        self.sensor = f"{name}_lidar"  # frames of its own: /tf is shared with the other tests
        self.map_frame = f"{name}_map"
        self.log: list[str] = []
        self._diagnostics = diagnostics
        self._basis_publisher = probe.node.create_publisher(FeatureBasis, f"/{name}/input/basis", qos.LATCHED)
        self._publisher = probe.node.create_publisher(FeatureCloud, f"/{name}/input/features", qos.OUTPUT)
        self._tf = probe.node.create_publisher(TFMessage, "/tf", qos.TF)
        self.basis = Basis(np.eye(4, dtype=np.float32), IDENTITY, 10.0)

    def close(self) -> None:
        for publisher in (self._basis_publisher, self._publisher, self._tf):
            self.probe.node.destroy_publisher(publisher)

    def publish_basis(self, basis: Basis | None = None) -> None:
        self._basis_publisher.publish(messages.basis_to_message(basis or self.basis, time.time_ns()))

    def publish_pose(self, stamp: int, x: float = 0.0, frame: str | None = None) -> None:
        T = np.eye(4)
        T[0, 3] = x
        edge = transform_stamped(self.map_frame, frame or self.sensor, stamp, T)
        self._tf.publish(TFMessage(transforms=[edge]))

    def publish_features(
        self, things: dict[str, np.ndarray], stamp: int, basis: Basis | None = None, frame: str | None = None
    ) -> None:
        centres = np.concatenate(list(things.values()))
        features = np.concatenate([np.tile(np.eye(4)[WORDS.index(word)], (len(c), 1)) for word, c in things.items()])
        coords = voxel_coordinates(centres, VOXEL).astype(np.int32)
        voxels = VoxelFeatures(coords, VOXEL, features.astype(np.float32), np.zeros(0, np.int64))
        scan = Scan(np.zeros((0, 3), np.float32), np.zeros(0, np.float32), stamp, frame or self.sensor)
        self._publisher.publish(messages.feature_cloud(scan, voxels, basis or self.basis))

    def ask(self, *words: str, **request: Any) -> QueryText.Response:
        return self.probe.call(QueryText, f"/{self.name}/query", QueryText.Request(words=list(words), **request))

    def clear(self) -> Trigger.Response:
        return self.probe.call(Trigger, f"/{self.name}/clear", Trigger.Request())

    def status(
        self, wanted: Callable[[DiagnosticStatus], bool] = lambda _: True, act: Callable[[], Any] = lambda: None
    ) -> DiagnosticStatus:
        def own(report: Any) -> list[DiagnosticStatus]:
            return [s for s in report.status if s.name.startswith(f"{self.name}:") and wanted(s)]

        self._diagnostics.clear()
        return own(self.probe.until(act, self._diagnostics, lambda report: bool(own(report))))[0]

    def send(self, things: dict[str, np.ndarray], x: float = 0.0) -> None:
        """Send the features once, with a pose at their stamp."""
        stamp = time.time_ns()
        self.publish_pose(stamp, x)
        self.publish_features(things, stamp)

    def drive(self, things: dict[str, np.ndarray], x: float = 0.0) -> DiagnosticStatus:
        """Send the features until they are in the map."""
        before = int(values_of(self.status())["integrated"])
        return self.status(lambda status: int(values_of(status)["integrated"]) > before, lambda: self.send(things, x))
