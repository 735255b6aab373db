"""Conversions: there and back, against hand-made bytes, and against ROS' own libraries where they are installed."""

from __future__ import annotations

import hashlib
import struct
import zlib

import numpy as np
import pytest
from geometry_msgs.msg import Quaternion, Transform, Vector3
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ros_harness import transform_stamped

from ov3d_msgs.msg import FeatureCloud, ObjectMatch
from ov3d_perception.errors import MessageError, PointCloudError, TransformError
from ov3d_perception.mapping.basis import Basis
from ov3d_perception.ros import messages
from ov3d_perception.types import EncoderIdentity, Scan, Segmentation, VoxelFeatures

IDENTITY = EncoderIdentity("ViT-B-16", "openai", 2, "ab" * 32)


def scan_of(xyz: np.ndarray, stamp: int = 3_000_000_007) -> Scan:
    xyz = np.asarray(xyz, np.float32)
    return Scan(xyz, np.zeros(len(xyz), np.float32), stamp, "lidar")


@given(st.integers(0, 2**31 * 10**9 - 1))
def test_stamps_survive(stamp: int) -> None:
    message = messages.ns_to_stamp(stamp)
    assert (message.sec, message.nanosec) == divmod(stamp, 10**9)
    assert messages.stamp_to_ns(message) == stamp


def test_a_transform_of_known_rotation() -> None:
    """90 degrees about z: x becomes y."""
    half = np.sqrt(0.5)
    message = Transform(translation=Vector3(x=1.0, y=2.0, z=3.0), rotation=Quaternion(x=0.0, y=0.0, z=half, w=half))
    T = messages.transform_to_pose(message)
    np.testing.assert_allclose(T @ [1, 0, 0, 1], [1, 3, 3, 1], atol=1e-12)


@given(hnp.arrays(float, 4, elements=st.floats(-1, 1)), hnp.arrays(float, 3, elements=st.floats(-99, 99)))
def test_transforms_survive(q: np.ndarray, t: np.ndarray) -> None:
    assume(np.linalg.norm(q) > 0.1)
    rotation = Quaternion(**dict(zip("xyzw", map(float, q), strict=True)))
    T = messages.transform_to_pose(Transform(translation=messages.vector3(t), rotation=rotation))
    again = messages.transform_to_pose(transform_stamped("a", "b", 1, T).transform)
    np.testing.assert_allclose(again, T, atol=1e-9)


def test_a_rotation_without_length_is_refused() -> None:
    with pytest.raises(TransformError):
        messages.transform_to_pose(Transform(rotation=Quaternion(x=0.0, y=0.0, z=0.0, w=0.0)))


def test_transforms_agree_with_tf_transformations() -> None:
    oracle = pytest.importorskip("tf_transformations", reason="tf_transformations is not installed")
    q = oracle.quaternion_from_euler(0.3, -0.8, 2.0)
    rotation = Quaternion(**dict(zip("xyzw", map(float, q), strict=True)))
    T = messages.transform_to_pose(Transform(rotation=rotation))
    np.testing.assert_allclose(T, oracle.quaternion_matrix(q), atol=1e-12)


def test_labelled_cloud_byte_by_byte() -> None:
    scan = scan_of([[1, 2, 3], [4, 5, 6]])
    result = Segmentation(np.array([7, 65535], np.int32), np.array([0.5, 0.25], np.float32))
    message = messages.labelled_cloud(scan, result, np.array([[1, 2, 3], [255, 0, 128]], np.uint8), ["a", "b"])
    words = zlib.crc32(b"a\0b") & 0xFFFF
    points = [(1, 2, 3, 7, words, 0.5, 0x010203), (4, 5, 6, 65535, words, 0.25, 0xFF0080)]
    assert message.data.tobytes() == b"".join(struct.pack("<3fHHfI", *point) for point in points)
    assert (message.height, message.width, message.point_step, message.row_step) == (1, 2, 24, 48)
    assert [(f.name, f.offset, f.datatype, f.count) for f in message.fields] == [
        ("x", 0, 7, 1), ("y", 4, 7, 1), ("z", 8, 7, 1),
        ("label", 12, 4, 1), ("vocabulary", 14, 4, 1), ("probability", 16, 7, 1), ("rgb", 20, 7, 1),
    ]  # fmt: skip
    assert (message.header.stamp.sec, message.header.stamp.nanosec, message.header.frame_id) == (3, 7, "lidar")
    assert not message.is_bigendian


def test_labelled_cloud_reads_with_sensor_msgs_py() -> None:
    oracle = pytest.importorskip("sensor_msgs_py.point_cloud2", reason="sensor_msgs_py is not installed")
    xyz = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    labels = np.arange(50, dtype=np.int32)
    result = Segmentation(labels, np.linspace(0, 1, 50, dtype=np.float32))
    message = messages.labelled_cloud(scan_of(xyz), result, np.zeros((50, 3), np.uint8), ["a"])
    points = oracle.read_points(message)
    np.testing.assert_array_equal(np.stack([points[name] for name in "xyz"], 1), xyz)
    np.testing.assert_array_equal(points["label"], labels)


def test_label_info() -> None:
    message = messages.label_info(["car", "tree"], 0.25, 5)
    assert [(c.class_id, c.class_name) for c in message.class_map] == [(0, "car"), (1, "tree")]
    assert message.threshold == 0.25


def test_basis_survives_and_is_named_by_its_content() -> None:
    weights = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    basis = Basis(weights, IDENTITY, 100.0)
    assert basis.basis_id == hashlib.sha256(struct.pack("<6f", 1, 2, 3, 4, 5, 6)).hexdigest()
    message = messages.basis_to_message(basis, 9)
    assert (message.channels, message.dim, list(message.weights)) == (3, 2, [1, 2, 3, 4, 5, 6])
    again = messages.message_to_basis(message)
    np.testing.assert_array_equal(again.weights, weights)
    assert (again.identity, again.logit_scale, again.basis_id) == (IDENTITY, 100.0, basis.basis_id)


def test_a_basis_of_the_wrong_size_is_refused() -> None:
    message = messages.basis_to_message(Basis(np.ones((3, 2), np.float32), IDENTITY, 1.0), 0)
    message.dim = 3
    with pytest.raises(MessageError, match="6 weights"):
        messages.message_to_basis(message)


def basis() -> Basis:
    return Basis(np.ones((3, 2), np.float32), IDENTITY, 100.0)


def voxels_of(coords: list[list[int]], features: np.ndarray, voxel_size: float = 0.2) -> VoxelFeatures:
    rows = np.zeros(0, np.int64)
    return VoxelFeatures(np.array(coords, np.int32).reshape(-1, 3), voxel_size, features.astype(np.float32), rows)


def test_voxel_coordinates_and_features_by_hand() -> None:
    voxels = voxels_of([[0, 0, 0], [-1, 1, -3]], np.eye(2, 3))
    np.testing.assert_allclose(voxels.centres, [[0.1, 0.1, 0.1], [-0.1, 0.3, -0.5]], atol=1e-7)
    message = messages.feature_cloud(scan_of(voxels.centres), voxels, basis(), FeatureCloud.FLOAT16)
    assert list(message.voxels) == [0, 0, 0, -1, 1, -3] and message.voxel_size == pytest.approx(0.2)
    assert message.features.tobytes() == np.eye(2, 3, dtype="<f2").tobytes()
    assert (message.count, message.channels, list(message.scale)) == (2, 3, [])


@given(
    hnp.arrays(np.int32, st.tuples(st.integers(0, 20), st.just(3)), elements=st.integers(-30000, 30000)),
    st.sampled_from([0.05, 0.1, 0.2]),
    st.sampled_from([FeatureCloud.INT8, FeatureCloud.FLOAT16]),
    st.integers(0, 2**32 - 1),
)
def test_feature_clouds_survive(coords: np.ndarray, voxel_size: float, encoding: int, seed: int) -> None:
    features = np.random.default_rng(seed).normal(size=(len(coords), 5)).astype(np.float32)
    message = messages.feature_cloud(scan_of(coords), voxels_of(coords, features, voxel_size), basis(), encoding)
    centres, again = messages.message_to_features(message)
    np.testing.assert_allclose(centres, (coords + 0.5) * voxel_size, atol=voxel_size * 1e-2)
    step = np.abs(features).max(axis=1, initial=0, keepdims=True) / (254 if encoding == FeatureCloud.INT8 else 2000)
    assert (np.abs(again - features) <= step * 1.01).all()


def test_a_voxel_without_any_feature_stays_zero() -> None:
    voxels = voxels_of([[0, 0, 0]], np.zeros((1, 4)))
    message = messages.feature_cloud(scan_of(voxels.centres), voxels, basis())
    np.testing.assert_array_equal(messages.message_to_features(message)[1], np.zeros((1, 4)))


def test_a_voxel_beyond_16_bits_is_refused() -> None:
    voxels = voxels_of([[40_000, 0, 0]], np.ones((1, 4)), 0.1)
    with pytest.raises(PointCloudError, match=r"4000 m from the sensor.*Filter the cloud to 3277 m"):
        messages.feature_cloud(scan_of(voxels.centres), voxels, basis())


@pytest.mark.parametrize(("field", "value"), [("count", 3), ("channels", 7), ("encoding", 9)])
def test_a_feature_cloud_that_contradicts_itself_is_refused(field: str, value: int) -> None:
    voxels = voxels_of([[0, 0, 0], [1, 0, 0]], np.ones((2, 4)))
    message = messages.feature_cloud(scan_of(voxels.centres), voxels, basis())
    setattr(message, field, value)
    with pytest.raises(MessageError):
        messages.message_to_features(message)


def test_identity_survives() -> None:
    assert messages.message_to_identity(messages.identity_to_message(IDENTITY)) == IDENTITY


def test_the_box_of_a_match() -> None:
    match = ObjectMatch(word="car", score=0.75)
    match.pose.position = messages.point((1, 2, 3))
    match.pose.orientation = Quaternion(x=0.0, y=0.0, z=float(np.sin(0.3)), w=float(np.cos(0.3)))
    match.size = messages.vector3((4, 2, 1.5))
    box = messages.message_to_box(match)
    np.testing.assert_array_equal(box.centre, [1, 2, 3])
    np.testing.assert_array_equal(box.size, [4, 2, 1.5])
    assert (round(box.yaw, 9), box.label, box.text) == (0.6, "car", "car 0.75")
