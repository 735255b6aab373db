"""Between the project's types and ROS messages; every conversion that the nodes need, and nothing else.

rclpy checks assigned fields one by one, so numbers are wrapped in int() or float(), and bulk data goes in as
``array.array`` (0.07 ms for 2 MB where a list takes 20 ms and a numpy array 75 ms).
"""

from __future__ import annotations

import array
import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Quaternion, Transform, Vector3
from jaxtyping import Float32, Int8, UInt8
from nav_msgs.msg import MapMetaData, OccupancyGrid
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header
from vision_msgs.msg import LabelInfo, VisionClass

from ov3d_msgs.msg import EncoderIdentity as EncoderIdentityMessage
from ov3d_msgs.msg import FeatureBasis, FeatureCloud, ObjectMatch
from ov3d_perception import types
from ov3d_perception.bags import pointcloud2
from ov3d_perception.errors import MessageError, PointCloudError
from ov3d_perception.geometry import poses
from ov3d_perception.geometry.boxes import Box
from ov3d_perception.mapping.basis import Basis
from ov3d_perception.mapping.navigation.costmap import Layout

_NS = 1_000_000_000
_INT8_LIMIT = 127


def message_class(msgtype: str) -> type[Any] | None:
    """The rclpy class of "package/msg/Name"; None where it is not installed."""
    package, _, name = msgtype.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name, None)
    except ImportError:
        return None


def stamp_to_ns(stamp: Any) -> int:
    """builtin_interfaces/Time to integer nanoseconds."""
    return int(stamp.sec) * _NS + int(stamp.nanosec)


def ns_to_stamp(stamp: int) -> Time:
    """Integer nanoseconds to builtin_interfaces/Time."""
    return Time(sec=int(stamp // _NS), nanosec=int(stamp % _NS))


def header(stamp: int, frame_id: str) -> Header:
    """A header from nanoseconds and a frame."""
    return Header(stamp=ns_to_stamp(stamp), frame_id=frame_id)


def point(xyz: Sequence[float] | np.ndarray) -> Point:
    """geometry_msgs/Point of three numbers."""
    return Point(x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))


def vector3(xyz: Sequence[float] | np.ndarray) -> Vector3:
    """geometry_msgs/Vector3 of three numbers."""
    return Vector3(x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))


def transform_to_pose(transform: Transform) -> types.Pose:
    """geometry_msgs/Transform to 4x4; TransformError where it is not finite or its quaternion has no length."""
    t, q = transform.translation, transform.rotation
    return poses.from_quaternion(np.array([t.x, t.y, t.z]), np.array([q.x, q.y, q.z, q.w]))


def message_to_box(match: ObjectMatch) -> Box:
    """The box of a map's answer, in the frame of the answer's header."""
    position, rotation, size = match.pose.position, match.pose.orientation, match.size
    return Box(
        centre=np.array([position.x, position.y, position.z]),
        size=np.array([size.x, size.y, size.z]),
        yaw=2.0 * math.atan2(rotation.z, rotation.w),
        label=match.word,
        text=f"{match.word} {match.score:.2f}",
    )


def message_to_pose(message: Pose) -> types.Pose:
    """geometry_msgs/Pose to 4x4; TransformError where it is not finite or its quaternion has no length."""
    t, q = message.position, message.orientation
    return poses.from_quaternion(np.array([t.x, t.y, t.z]), np.array([q.x, q.y, q.z, q.w]))


def point_cloud(columns: Mapping[str, np.ndarray], stamp: int, frame_id: str) -> PointCloud2:
    """Columns of one length to an unorganised little-endian cloud, one aligned field a column (pointcloud2.encode)."""
    layout = pointcloud2.encode(columns, aligned=True)
    fields = [PointField(name=f.name, offset=f.offset, datatype=f.datatype, count=f.count) for f in layout.fields]
    message = PointCloud2(
        header=header(stamp, frame_id),
        height=int(layout.height),
        width=int(layout.width),
        fields=fields,
        is_bigendian=layout.is_bigendian,
        point_step=int(layout.point_step),
        row_step=int(layout.row_step),
        is_dense=bool(layout.is_dense),
    )
    message.data = _bulk("B", layout.data)
    return message


def labelled_cloud(
    scan: types.Scan, result: types.Segmentation, rgb: UInt8[np.ndarray, "n 3"], names: Sequence[str]
) -> PointCloud2:
    """The scan's points, in their order, with the fields of :func:`pointcloud2.labelled_columns`."""
    return point_cloud(pointcloud2.labelled_columns(scan, result, rgb, names), scan.stamp, scan.frame_id)


def label_info(names: Sequence[str], threshold: float, stamp: int) -> LabelInfo:
    """The names of the class ids 0.. and the least probability of a label."""
    classes = [VisionClass(class_id=index, class_name=name) for index, name in enumerate(names)]
    return LabelInfo(header=header(stamp, ""), class_map=classes, threshold=float(threshold))


def identity_to_message(identity: types.EncoderIdentity) -> EncoderIdentityMessage:
    """An encoder's identity as a message."""
    return EncoderIdentityMessage(
        model=identity.model, pretrained=identity.pretrained or "", dim=int(identity.dim), sha256=identity.sha256
    )


def message_to_identity(message: EncoderIdentityMessage) -> types.EncoderIdentity:
    """An encoder's identity from a message."""
    return types.EncoderIdentity(message.model, message.pretrained, int(message.dim), message.sha256)


def basis_to_message(basis: Basis, stamp: int) -> FeatureBasis:
    """A basis as it is latched."""
    channels, dim = basis.weights.shape
    message = FeatureBasis(
        header=header(stamp, ""),
        basis_id=basis.basis_id,
        encoder=identity_to_message(basis.identity),
        logit_scale=basis.logit_scale,
        channels=int(channels),
        dim=int(dim),
    )
    message.weights = _bulk("f", basis.weights)
    return message


def message_to_basis(message: FeatureBasis) -> Basis:
    """A basis from its message; MessageError where the weights are not channels x dim, or not those of the id."""
    weights = np.frombuffer(message.weights, np.float32)
    if len(weights) != message.channels * message.dim:
        raise MessageError(
            f"A basis of {message.channels} x {message.dim} came with {len(weights)} weights",
            "Check that both sides are built from the same ov3d_msgs",
        )
    weights = weights.reshape(message.channels, message.dim)
    basis = Basis(weights, message_to_identity(message.encoder), float(message.logit_scale))
    if basis.basis_id != message.basis_id:
        raise MessageError(
            f"A basis came with the id {message.basis_id[:12]}, its weights have {basis.basis_id[:12]}",
            "Check that both sides are built from the same ov3d_msgs",
        )
    return basis


def feature_cloud(
    scan: types.Scan,
    voxels: types.VoxelFeatures,
    basis: Basis,
    encoding: int = FeatureCloud.INT8,
) -> FeatureCloud:
    """Voxel features in the scan's frame, that of ``voxels.coords``. PointCloudError for voxels beyond 16 bits."""
    message = FeatureCloud(
        header=header(scan.stamp, scan.frame_id),
        basis_id=basis.basis_id,
        encoder=identity_to_message(basis.identity),
        voxel_size=float(voxels.voxel_size),
        count=len(voxels),
        channels=int(voxels.features.shape[1]),
        encoding=encoding,
    )
    coords, limits = voxels.coords, np.iinfo(np.int16)
    if len(coords) and (coords.min() < limits.min or coords.max() > limits.max):
        raise PointCloudError(
            f"A voxel lies {np.abs(voxels.centres).max():.0f} m from the sensor, beyond what 16-bit indices hold",
            f"Filter the cloud to {limits.max * voxels.voxel_size:.0f} m",
        )
    message.voxels = _bulk("h", coords.astype(np.int16))
    if encoding == FeatureCloud.INT8:
        scale = np.abs(voxels.features).max(axis=1, initial=0.0) / np.float32(_INT8_LIMIT)
        values = np.rint(voxels.features / np.maximum(scale, np.finfo(np.float32).tiny)[:, None]).astype(np.int8)
        message.scale = _bulk("f", scale.astype(np.float32))
    else:
        values = voxels.features.astype("<f2")
    message.features = _bulk("B", values)
    return message


def message_to_features(message: FeatureCloud) -> tuple[Float32[np.ndarray, "v 3"], Float32[np.ndarray, "v c"]]:
    """Voxel centres (metres, in the header's frame) and point features of a FeatureCloud.

    MessageError where the lengths do not agree or the encoding is unknown.
    """
    count, channels = int(message.count), int(message.channels)
    if message.encoding not in (FeatureCloud.FLOAT16, FeatureCloud.INT8):
        raise MessageError(
            f"Feature encoding {message.encoding} is unknown", "Build both sides from the same ov3d_msgs"
        )
    is_int8 = message.encoding == FeatureCloud.INT8
    expected = (3 * count, count * channels * (1 if is_int8 else 2), count if is_int8 else 0)
    lengths = (len(message.voxels), len(message.features), len(message.scale))
    if lengths != expected:
        raise MessageError(
            f"A feature cloud of {count} x {channels} has voxels, features and scale of lengths {lengths}, "
            f"not {expected}",
            "Check the node that publishes it",
        )
    origin = np.array([message.origin.x, message.origin.y, message.origin.z])
    indices = np.frombuffer(message.voxels, np.int16).reshape(count, 3)
    centres = (origin + (indices + 0.5) * message.voxel_size).astype(np.float32)
    raw = np.frombuffer(message.features, np.int8 if is_int8 else "<f2").reshape(count, channels)
    features = raw.astype(np.float32)
    if is_int8:
        features *= np.frombuffer(message.scale, np.float32)[:, None]
    return centres, features


def occupancy_grid(layout: Layout, values: Int8[np.ndarray, "h w"], stamp: int, frame_id: str) -> OccupancyGrid:
    """A grid as a message; its axes are the frame's."""
    head = header(stamp, frame_id)
    info = MapMetaData(
        map_load_time=head.stamp,
        resolution=layout.resolution,
        width=layout.width,
        height=layout.height,
        origin=Pose(position=point((*layout.origin, 0.0)), orientation=Quaternion(w=1.0)),
    )
    grid = OccupancyGrid(header=head, info=info)
    grid.data = _bulk("b", values)
    return grid


def message_to_grid(message: OccupancyGrid) -> tuple[Layout, Int8[np.ndarray, "h w"]]:
    """A grid from a message whose axes are those of its frame."""
    info = message.info
    origin = (float(info.origin.position.x), float(info.origin.position.y))
    layout = Layout(origin, float(info.resolution), int(info.width), int(info.height))
    return layout, np.frombuffer(message.data, np.int8).reshape(layout.shape)


def _bulk(typecode: str, values: np.ndarray) -> array.array[Any]:
    """An array.array of the values' bytes. The message keeps a reference: do not change it afterwards."""
    result: array.array[Any] = array.array(typecode)
    result.frombytes(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return result
