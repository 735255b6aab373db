"""Messages for bags, built from the project's types without ROS. All are rosbags dataclasses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ov3d_perception.bags.camera_info import from_camera
from ov3d_perception.bags.pointcloud2 import SECOND, encode
from ov3d_perception.bags.typestore import typestore
from ov3d_perception.errors import TransformError
from ov3d_perception.geometry.poses import from_quaternions, to_quaternion
from ov3d_perception.geometry.transform_tree import TransformTree
from ov3d_perception.types import Camera, Pose

_AT_ONCE = 4096  # transforms whose rotations are made together


def build(msgtype: str, **attributes: Any) -> Any:
    """A message of type "package/msg/Name" with these attributes, all of them."""
    return typestore().types[msgtype](**attributes)


def header(stamp: int, frame_id: str) -> Any:
    """std_msgs/Header of a stamp in nanoseconds."""
    time = build("builtin_interfaces/msg/Time", sec=int(stamp // SECOND), nanosec=int(stamp % SECOND))
    return build("std_msgs/msg/Header", stamp=time, frame_id=frame_id)


def point_cloud(columns: Mapping[str, np.ndarray], stamp: int, frame_id: str) -> Any:
    """sensor_msgs/PointCloud2 with one field a column, in order (see :func:`pointcloud2.encode`)."""
    cloud = encode(columns)
    fields = [
        build("sensor_msgs/msg/PointField", name=f.name, offset=f.offset, datatype=f.datatype, count=f.count)
        for f in cloud.fields
    ]
    return build(
        "sensor_msgs/msg/PointCloud2",
        header=header(stamp, frame_id),
        height=cloud.height,
        width=cloud.width,
        fields=fields,
        is_bigendian=cloud.is_bigendian,
        point_step=cloud.point_step,
        row_step=cloud.row_step,
        data=cloud.data,
        is_dense=cloud.is_dense,
    )


def label_info(names: Sequence[str], stamp: int, threshold: float = 0.0) -> Any:
    """vision_msgs/LabelInfo: the names of the class ids 0.. and the least probability of a label."""
    classes = [
        build("vision_msgs/msg/VisionClass", class_id=index, class_name=name) for index, name in enumerate(names)
    ]
    return build("vision_msgs/msg/LabelInfo", header=header(stamp, ""), class_map=classes, threshold=threshold)


def compressed_image(data: UInt8[np.ndarray, " bytes"], format: str, stamp: int, frame_id: str) -> Any:
    """sensor_msgs/CompressedImage from encoded bytes; format "jpeg" or "png"."""
    return build("sensor_msgs/msg/CompressedImage", header=header(stamp, frame_id), format=format, data=data)


def camera_info(camera: Camera, stamp: int, frame_id: str) -> Any:
    """sensor_msgs/CameraInfo of these intrinsics, full image, no binning."""
    roi = build("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return build(
        "sensor_msgs/msg/CameraInfo",
        header=header(stamp, frame_id),
        binning_x=0,
        binning_y=0,
        roi=roi,
        **from_camera(camera),
    )


def tf_message(transforms: Iterable[tuple[str, str, int, Pose]]) -> Any:
    """tf2_msgs/TFMessage of (parent, child, stamp ns, T_parent_child)."""
    return build("tf2_msgs/msg/TFMessage", transforms=[_transform_stamped(*edge) for edge in transforms])


def odometry(T_odom_base: Pose, stamp: int, frame_id: str = "odom", child_frame_id: str = "base_link") -> Any:
    """nav_msgs/Odometry with the pose; its twist is zero, its covariances too (unknown)."""
    position, orientation = _position_orientation(T_odom_base)
    pose = build(
        "geometry_msgs/msg/Pose", position=build("geometry_msgs/msg/Point", **position), orientation=orientation
    )
    zero = [build("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=0.0) for _ in range(2)]
    twist = build("geometry_msgs/msg/Twist", linear=zero[0], angular=zero[1])
    return build(
        "nav_msgs/msg/Odometry",
        header=header(stamp, frame_id),
        child_frame_id=child_frame_id,
        pose=build("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=np.zeros(36)),
        twist=build("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=np.zeros(36)),
    )


def stamp_ns(message: Any) -> int:
    """The header stamp of any message that has a header, in nanoseconds."""
    return message.header.stamp.sec * SECOND + message.header.stamp.nanosec


def add_to_tree(tree: TransformTree, edges: Iterable[tuple[Any, bool]]) -> None:
    """Put TransformStamped messages (rosbags' or rclpy's), each with whether it is static, into the tree in this order;
    a bad one is skipped, counted there."""
    rest = iter(edges)
    while some := list(islice(rest, _AT_ONCE)):
        parts = [(edge.transform.translation, edge.transform.rotation) for edge, _ in some]
        numbers = np.array([(t.x, t.y, t.z, q.x, q.y, q.z, q.w) for t, q in parts], np.float64)
        poses, faults = from_quaternions(numbers[:, :3], numbers[:, 3:])
        for row, (edge, static) in enumerate(some):
            parent, child = edge.header.frame_id, edge.child_frame_id
            try:
                if row in faults:
                    raise faults[row]
                tree.add(parent, child, stamp_ns(edge), poses[row], static)
            except TransformError as error:
                tree.skip(parent, child, error.cause)


def _transform_stamped(parent: str, child: str, stamp: int, T_parent_child: Pose) -> Any:
    position, orientation = _position_orientation(T_parent_child)
    transform = build(
        "geometry_msgs/msg/Transform", translation=build("geometry_msgs/msg/Vector3", **position), rotation=orientation
    )
    return build(
        "geometry_msgs/msg/TransformStamped",
        header=header(stamp, parent),
        child_frame_id=child,
        transform=transform,
    )


def _position_orientation(T: Pose) -> tuple[dict[str, float], Any]:
    t, q = to_quaternion(T)
    position = dict(zip("xyz", map(float, t), strict=True))
    return position, build("geometry_msgs/msg/Quaternion", **dict(zip("xyzw", map(float, q), strict=True)))
