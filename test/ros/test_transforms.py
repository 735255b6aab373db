"""The tree that waits, the listener on real topics, and tf2_ros as oracle where it is installed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from ros_harness import PATIENCE_S, transform_stamped
from tf2_msgs.msg import TFMessage

from ov3d_perception.errors import TransformError
from ov3d_perception.geometry.poses import from_quaternion
from ov3d_perception.ros import messages, qos
from ov3d_perception.ros.transforms import Tf2Transforms, TopicTransforms, Transforms, WaitingTree, listen

S = 1_000_000_000


def shifted(x: float) -> np.ndarray:
    return from_quaternion((x, 0, 0), (0, 0, 0, 1))


def test_lookup_between_two_moments() -> None:
    tree = WaitingTree(10.0)
    tree.add("odom", "base", 1 * S, shifted(1))
    tree.add("odom", "base", 2 * S, shifted(3))
    tree.add("base", "lidar", 0, shifted(0.5), static=True)
    T = tree.lookup("odom", "lidar", int(1.25 * S))
    np.testing.assert_allclose(T[:3, 3], [2.0, 0, 0])
    assert tree.latest("odom", "lidar") == 2 * S
    assert tree.latest("base", "lidar") == 0
    assert tree.latest("odom", "camera") is None


def test_what_is_on_its_way_is_waited_for() -> None:
    tree = WaitingTree(10.0)
    tree.add("odom", "base", 1 * S, shifted(1))
    threading.Timer(0.05, tree.add, ("odom", "base", 2 * S, shifted(2))).start()
    T = tree.lookup("odom", "base", int(1.5 * S), timeout_s=30.0)
    assert T[0, 3] == 1.5
    threading.Timer(0.05, tree.add, ("odom", "base", 3 * S, shifted(3))).start()
    before, _, after = tree.lookup_each("odom", "base", np.array([S, int(2.5 * S), 2 * S]), timeout_s=30.0)
    assert (before[0, 3], after[0, 3]) == (1.0, 2.0)


def test_the_wait_ends() -> None:
    tree = WaitingTree(10.0)
    tree.add("odom", "base", 1 * S, shifted(1))
    with pytest.raises(TransformError, match=r"0\.500 s newer than the last"):
        tree.lookup("odom", "base", int(1.5 * S), timeout_s=0.02)


@pytest.mark.parametrize("frames", [("odom", "camera"), ("odom", "base")])
def test_what_will_not_come_is_not_waited_for(frames: tuple[str, str]) -> None:
    """Unconnected frames, and a stamp far ahead of the newest data."""
    tree = WaitingTree(10.0)
    tree.add("odom", "base", 1 * S, shifted(1))
    start = time.monotonic()
    with pytest.raises(TransformError):
        tree.lookup(*frames, 60 * S, timeout_s=30.0)
    assert time.monotonic() - start < 20.0


def test_a_bag_that_starts_again_is_followed() -> None:
    tree = WaitingTree(5.0)
    tree.add("base", "lidar", 0, shifted(1), static=True)
    for second in (100, 101):
        tree.add("odom", "base", second * S, shifted(second))
    for second in (10, 11):
        tree.add("odom", "base", second * S, shifted(second))
    assert tree.lookup("odom", "lidar", int(10.5 * S))[0, 3] == 11.5
    assert tree.latest("odom", "base") == 11 * S


def test_an_old_message_of_one_frame_does_not_clear_the_others() -> None:
    """A broadcaster that never sets its stamps is its own trouble."""
    tree = WaitingTree(5.0)
    tree.add("odom", "base", 100 * S, shifted(1))
    tree.add("base", "wheel", 0, shifted(1))
    tree.add("odom", "base", 101 * S, shifted(2))
    assert tree.lookup("odom", "base", int(100.5 * S))[0, 3] == 1.5


def topic_transforms(node: Any) -> Transforms:
    return TopicTransforms(node, 10.0)


def tf2_transforms(node: Any) -> Transforms:
    return Tf2Transforms(node, 10.0, pytest.importorskip("tf2_ros", reason="tf2_ros is not installed"))


@pytest.mark.live
@pytest.mark.parametrize("make", [topic_transforms, tf2_transforms])
def test_a_node_follows_the_topics(make: Callable[[Any], Transforms], probe: Any) -> None:
    """A broken transform is left out, a late one waited for; the same for ours and for tf2_ros."""
    transforms = make(probe.node)
    moving = probe.node.create_publisher(TFMessage, "/tf", qos.TF)
    static = probe.node.create_publisher(TFMessage, "/tf_static", qos.TF_STATIC)
    odom, base, lidar = (f"{make.__name__}_{name}" for name in ("odom", "base", "lidar"))

    def moves(*seconds: int) -> list[TransformStamped]:
        return [transform_stamped(odom, base, second * S, shifted(second)) for second in seconds]

    try:
        static.publish(TFMessage(transforms=[transform_stamped(base, lidar, 0, shifted(0.5))]))
        broken = moves(3)
        broken[0].transform.rotation.w = 0.0

        def heard() -> bool:
            moving.publish(TFMessage(transforms=broken + moves(1, 2)))
            return transforms.latest(odom, lidar) is not None

        probe.wait_for(heard, "a transform on /tf")
        assert transforms.latest(odom, lidar) == 2 * S
        assert transforms.latest(base, lidar) == 0
        assert transforms.lookup(odom, lidar, int(1.5 * S))[0, 3] == pytest.approx(2.0)
        with pytest.raises(TransformError, match="use_sim_time"):
            transforms.lookup(odom, lidar, int(2.5 * S), timeout_s=0.01)
        late = threading.Timer(0.05, lambda: moving.publish(TFMessage(transforms=moves(3))))
        late.start()
        assert transforms.lookup(odom, lidar, int(2.5 * S), PATIENCE_S)[0, 3] == pytest.approx(3.0)
        late.join()
        with pytest.raises(TransformError):
            transforms.lookup(odom, "nowhere", S)
    finally:
        transforms.close()
        probe.node.destroy_publisher(moving)
        probe.node.destroy_publisher(static)


@pytest.mark.live
def test_the_distributions_tf2_is_preferred(probe) -> None:
    pytest.importorskip("tf2_ros", reason="tf2_ros is not installed")
    transforms = listen(probe.node)
    assert isinstance(transforms, Tf2Transforms)
    transforms.close()


def test_answers_agree_with_tf2() -> None:
    tf2_ros = pytest.importorskip("tf2_ros", reason="tf2_ros is not installed")
    from rclpy.time import Time

    oracle, tree = tf2_ros.BufferCore(), WaitingTree(10.0)
    generator = np.random.default_rng(0)
    for stamp in range(10, 15):
        for parent, child in (("odom", "base"), ("base", "arm"), ("odom", "other")):
            T = from_quaternion(generator.normal(size=3), generator.normal(size=4))
            oracle.set_transform(transform_stamped(parent, child, stamp * S, T), "test")
            tree.add(parent, child, stamp * S, T)
    for stamp in (10 * S, int(12.3 * S), 14 * S):
        for target, source in (("odom", "arm"), ("arm", "other"), ("base", "odom")):
            message = oracle.lookup_transform_core(target, source, Time(nanoseconds=stamp))
            expected = messages.transform_to_pose(message.transform)
            np.testing.assert_allclose(tree.lookup(target, source, stamp), expected, atol=1e-6)
    for stamp in (9 * S, 15 * S):
        with pytest.raises(tf2_ros.TransformException):
            oracle.lookup_transform_core("odom", "arm", Time(nanoseconds=stamp))
        with pytest.raises(TransformError):
            tree.lookup("odom", "arm", stamp)
