"""Transforms between frames at a moment: tf2_ros where the distribution has it, else our own tree of the same meaning.

Nodes see the :class:`Transforms` interface only.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, Protocol

import numpy as np
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from ov3d_perception.errors import Ov3dError, TransformError
from ov3d_perception.geometry.transform_tree import ParentWatch, TransformTree
from ov3d_perception.ros import qos
from ov3d_perception.ros.messages import stamp_to_ns, transform_to_pose
from ov3d_perception.types import Pose, Poses, Stamps

_NS = 1_000_000_000
_WORTH_WAITING_NS = _NS  # a stamp further ahead of the newest transform than this will not be reached in time


class Transforms(Protocol):
    """Timed transforms between frames."""

    def lookup(self, target: str, source: str, stamp: int, timeout_s: float = 0.0) -> Pose:
        """T_target_source at ``stamp`` (ns), waiting up to ``timeout_s`` for a transform that is on its way.

        ``TransformError`` where the frames are not connected or the data does not cover the stamp; these do not wait,
        nor does a stamp more than a second ahead of the newest data. With a timeout this blocks the calling thread:
        call it from a worker, not from an executor's callback.
        """

    def lookup_each(self, target: str, source: str, stamps: Stamps, timeout_s: float = 0.0) -> Poses:
        """:meth:`lookup` at each of these stamps; it waits once, for the last of them."""

    def latest(self, target: str, source: str) -> int | None:
        """Newest moment (ns) at which the transform is known, 0 if it is static, None if the frames do not connect."""

    @property
    def skipped(self) -> list[str]:
        """Transforms that could not be used, and why; empty where tf2 itself logs them."""

    @property
    def parent_faults(self) -> list[str]:
        """Frames that two nodes publish with different parents."""

    def close(self) -> None:
        """Stop listening."""


def listen(node: Node, keep_s: float = 10.0) -> Transforms:
    """Listen to /tf and /tf_static on the node's own executor, keeping ``keep_s`` seconds of each moving frame."""
    try:
        import tf2_ros
    except ImportError:
        return TopicTransforms(node, keep_s)
    return Tf2Transforms(node, keep_s, tf2_ros)


def newest(transforms: Transforms, target: str, source: str) -> Pose:
    """T_target_source at the newest moment at which it is known. TransformError where the frames do not connect."""
    stamp = transforms.latest(target, source)
    if stamp is None:
        raise TransformError(
            f"'{source}' is not connected to '{target}' in TF",
            "Publish what connects them on /tf or /tf_static, or correct the frames' names",
        )
    return transforms.lookup(target, source, stamp)


class WaitingTree:
    """A :class:`TransformTree` that a reader can wait at, and that starts anew when the clock is set back."""

    def __init__(self, keep_s: float) -> None:
        self._keep_ns = int(keep_s * _NS)
        self._tree = TransformTree(keep_s)
        self._newest: dict[str, int] = {}
        self._changed = threading.Condition()

    def add(self, parent: str, child: str, stamp: int, T_parent_child: Pose, *, static: bool = False) -> None:
        """See :meth:`TransformTree.add`. A stamp older than all that is kept means a bag that starts again."""
        with self._changed:
            if not static and stamp < self._newest.get(child, stamp) - self._keep_ns:
                self._tree.clear()
                self._newest.clear()
            self._tree.add(parent, child, stamp, T_parent_child, static)
            self._newest[child] = max(stamp, self._newest.get(child, stamp))
            self._changed.notify_all()

    def lookup(self, target: str, source: str, stamp: int, timeout_s: float = 0.0) -> Pose:
        """See :meth:`Transforms.lookup`."""
        pose: Pose = self.lookup_each(target, source, np.array([stamp]), timeout_s)[0]
        return pose

    def lookup_each(self, target: str, source: str, stamps: Stamps, timeout_s: float = 0.0) -> Poses:
        """See :meth:`Transforms.lookup_each`."""
        with self._changed:
            if timeout_s > 0:
                last = int(stamps.max())
                self._changed.wait_for(lambda: not _is_late(self.latest(target, source), last), timeout_s)
            return self._tree.lookup_each(target, source, stamps)

    def latest(self, target: str, source: str) -> int | None:
        """See :meth:`Transforms.latest`."""
        try:
            return self._tree.newest(target, source) or 0
        except TransformError:
            return None

    @property
    def skipped(self) -> list[str]:
        """See :meth:`Transforms.skipped`."""
        return self._tree.skipped

    @property
    def parent_faults(self) -> list[str]:
        """See :meth:`Transforms.parent_faults`."""
        return self._tree.parent_faults


class TopicTransforms(WaitingTree):
    """:class:`Transforms` from our own subscriptions. Broken transforms are logged (throttled) and left out."""

    def __init__(self, node: Node, keep_s: float) -> None:
        from tf2_msgs.msg import TFMessage

        super().__init__(keep_s)
        self._node = node
        group = ReentrantCallbackGroup()
        self._subscriptions = [
            node.create_subscription(TFMessage, "/tf", self._on_moving, qos.TF, callback_group=group),
            node.create_subscription(TFMessage, "/tf_static", self._on_static, qos.TF_STATIC, callback_group=group),
        ]

    def close(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _on_moving(self, message: Any) -> None:
        self._store(message, static=False)

    def _on_static(self, message: Any) -> None:
        self._store(message, static=True)

    def _store(self, message: Any, *, static: bool) -> None:
        for stamped in message.transforms:
            try:
                add_message(self, stamped, static=static)
            except Ov3dError as error:
                edge = stamped.header.frame_id, stamped.child_frame_id
                self._tree.skip(*edge, error.cause)
                text = f"Transform '{edge[0]}' <- '{edge[1]}' is skipped. {error}"
                self._node.get_logger().warning(text, throttle_duration_sec=5.0)


class Tf2Transforms:
    """:class:`Transforms` by tf2_ros."""

    _POLL_S = 0.005

    def __init__(self, node: Node, keep_s: float, tf2_ros: Any) -> None:
        from rclpy.duration import Duration

        self._error = tf2_ros.TransformException
        parents = self._parents = ParentWatch(forget_after=200)
        history = self._history = TransformTree(keep_s)

        class WatchedBuffer(tf2_ros.Buffer):
            """Notes who carries whom, and when, before tf2 takes a transform: tf2 lets the last parent win without a
            word, and interpolates over any gap."""

            def set_transform(self, transform: Any, authority: str) -> None:
                parents.note(transform.header.frame_id, transform.child_frame_id, static=False)
                with contextlib.suppress(Ov3dError):  # tf2 logs it
                    add_message(history, transform)
                super().set_transform(transform, authority)

            def set_transform_static(self, transform: Any, authority: str) -> None:
                parents.note(transform.header.frame_id, transform.child_frame_id, static=True)
                with contextlib.suppress(Ov3dError):
                    add_message(history, transform, static=True)
                super().set_transform_static(transform, authority)

        self._buffer = WatchedBuffer(cache_time=Duration(seconds=keep_s), node=node)
        self._listener = tf2_ros.TransformListener(self._buffer, node, spin_thread=False)

    def lookup(self, target: str, source: str, stamp: int, timeout_s: float = 0.0) -> Pose:
        """See :meth:`Transforms.lookup`."""
        pose: Pose = self.lookup_each(target, source, np.array([stamp]), timeout_s)[0]
        return pose

    def lookup_each(self, target: str, source: str, stamps: Stamps, timeout_s: float = 0.0) -> Poses:
        """See :meth:`Transforms.lookup_each`."""
        target, source = target.lstrip("/"), source.lstrip("/")
        deadline, last = time.monotonic() + timeout_s, int(stamps.max())
        while time.monotonic() < deadline and _is_late(self.latest(target, source), last):
            time.sleep(self._POLL_S)
        found = np.array([self._at(target, source, stamp) for stamp in stamps.tolist()])
        self._history.require_no_gap(target, source, stamps)
        return found

    def _at(self, target: str, source: str, stamp: int) -> Pose:
        from rclpy.time import Time

        try:
            return transform_to_pose(self._buffer.lookup_transform(target, source, Time(nanoseconds=stamp)).transform)
        except self._error as error:
            connected = self.latest(target, source) is not None
            raise TransformError(
                f"No transform '{target}' <- '{source}' at {stamp / _NS:.3f} s: {str(error).rstrip(' .')}",
                "Check that odometry is running, that its clock is the sensor's, and use_sim_time; or raise tf_timeout"
                if connected
                else "Publish what connects them on /tf or /tf_static, or correct the frames' names",
            ) from error

    def latest(self, target: str, source: str) -> int | None:
        """See :meth:`Transforms.latest`."""
        try:
            return int(self._buffer.get_latest_common_time(target.lstrip("/"), source.lstrip("/")).nanoseconds)
        except self._error:
            return None

    @property
    def skipped(self) -> list[str]:
        """Empty: tf2 logs what it ignores."""
        return []

    @property
    def parent_faults(self) -> list[str]:
        """See :meth:`Transforms.parent_faults`."""
        return self._parents.faults

    def close(self) -> None:
        """Stop listening."""
        self._listener.unregister()


def add_message(tree: WaitingTree | TransformTree, stamped: Any, *, static: bool = False) -> None:
    """Add a geometry_msgs/TransformStamped. Raises TransformError for one that no tree can take."""
    tree.add(
        stamped.header.frame_id,
        stamped.child_frame_id,
        stamp_to_ns(stamped.header.stamp),
        transform_to_pose(stamped.transform),
        static=static,
    )


def _is_late(newest: int | None, stamp: int) -> bool:
    """Worth waiting for: the frames are connected and the stamp lies shortly after the newest transform."""
    return newest is not None and 0 < newest < stamp <= newest + _WORTH_WAITING_NS
