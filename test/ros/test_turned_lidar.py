"""A LiDAR that is mounted upside down, leans or has optical axes is labelled live as well as an upright one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from ros_harness import Inbox, Lidar, transform_stamped, values_of
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage

from ov3d_perception.bags.pointcloud2 import structured
from ov3d_perception.ros import messages, qos
from ov3d_perception.sim.drive import SimFrame, simulate

pytestmark = pytest.mark.live

#: T_base_lidar's rotation, as Euler angles about x, y, z in degrees.
MOUNTS = {
    "upright": (0, 0, 0),
    "roll180": (180, 0, 0),
    "pitch30": (0, 30, 0),
    "roll20_yaw": (20, 0, 130),
    "optical": (-90, 0, -90),
}


@pytest.fixture(scope="module")
def frames() -> list[SimFrame]:
    """Three scans of the demo's drive."""
    drive = simulate(2002, 12.0, cameras=False)
    return [drive[index] for index in (20, 60, 100)]


@pytest.fixture(scope="module")
def lidar(start_node: Callable[..., Any], lidar_named: Callable[[str], Lidar]) -> Iterator[Lidar]:
    """The shipped network, and every mount in TF."""
    start_node(
        "ov3d_perception.ros.lidar_node",
        "lidar_turned",
        {"device": "cpu", "diagnostics_period": "0.1", "base_frame": "turned_base"},
    )
    lidar = lidar_named("lidar_turned")
    static = lidar.probe.node.create_publisher(TFMessage, "/tf_static", qos.TF_STATIC)
    edges = []
    for name, angles in MOUNTS.items():
        T = np.eye(4)
        T[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        edges.append(transform_stamped("turned_base", f"turned_{name}", 1, T))
    static.publish(TFMessage(transforms=edges))
    yield lidar
    lidar.probe.node.destroy_publisher(static)


@pytest.fixture(scope="module")
def accuracy(lidar: Lidar, diagnostics: Inbox, frames: list[SimFrame]) -> Callable[[str], float]:
    """accuracy(mount): share of the points that the live node labels as the simulator does, once it knows the mount."""

    def seen(frame: SimFrame, mount: str) -> PointCloud2:
        R = Rotation.from_euler("xyz", MOUNTS[mount], degrees=True).as_matrix()
        xyz = (frame.scan.xyz @ R).astype(np.float32)  # R^T of each point
        columns = {axis: xyz[:, i] for i, axis in enumerate("xyz")} | {"intensity": frame.scan.intensity}
        return messages.point_cloud(columns, time.time_ns(), f"turned_{mount}")

    def measure(mount: str) -> float:
        right = total = 0
        with lidar.probe.listening(PointCloud2, lidar.labelled) as labelled:
            if mount != "upright":  # /tf_static may come seconds after the first scans
                known = f"turned_{mount} in TF"
                lidar.status(
                    diagnostics,
                    lambda status: known in values_of(status).get("upright", ""),
                    lambda: lidar.publish(seen(frames[0], mount)),
                )
            for frame in frames:
                answer = lidar.exchange(labelled, seen(frame, mount))
                right += int((structured(answer)["label"] == frame.labels).sum())
                total += len(frame.labels)
        return right / total

    return measure


@pytest.fixture(scope="module")
def upright(accuracy: Callable[[str], float]) -> float:
    return accuracy("upright")


@pytest.mark.parametrize("mount", [name for name in MOUNTS if name != "upright"])
def test_labels_are_as_good_as_of_an_upright_lidar(
    mount: str, upright: float, accuracy: Callable[[str], float]
) -> None:
    assert upright > 0.85
    assert abs(accuracy(mount) - upright) < 0.02
