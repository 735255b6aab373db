"""What live tests share: inboxes with bounded waits, a probe node, node processes, and one lidar_node's topics."""

from __future__ import annotations

import contextlib
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Quaternion, Transform, TransformStamped
from rclpy.executors import ExternalShutdownException, InvalidHandle, SingleThreadedExecutor
from sensor_msgs.msg import PointCloud2

from ov3d_msgs.msg import VocabularyClass
from ov3d_msgs.srv import SetVocabulary
from ov3d_perception.geometry.poses import to_quaternion
from ov3d_perception.ros import messages, qos
from ov3d_perception.ros.tools.up import restore_signals
from ov3d_perception.types import Pose

PATIENCE_S = 200.0  # for anything that a loaded machine may take its time over; below pytest's own timeout


def transform_stamped(parent: str, child: str, stamp: int, T_parent_child: Pose) -> TransformStamped:
    """4x4 to what is broadcast on /tf."""
    t, q = to_quaternion(T_parent_child)
    rotation = Quaternion(**dict(zip("xyzw", map(float, q), strict=True)))
    transform = Transform(translation=messages.vector3(t), rotation=rotation)
    return TransformStamped(header=messages.header(stamp, parent), child_frame_id=child, transform=transform)


class Inbox:
    """Messages of one topic, in order, with a way to wait for one."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.messages: deque[Any] = deque(maxlen=1000)
        self._changed = threading.Condition()

    def put(self, message: Any) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def clear(self) -> None:
        with self._changed:
            self.messages.clear()

    def find(self, wanted: Callable[[Any], bool], timeout_s: float) -> Any | None:
        """The first message for which ``wanted`` holds, waiting for it; None if it does not come in time."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                found = next((message for message in self.messages if wanted(message)), None)
                left = deadline - time.monotonic()
                if found is not None or left <= 0:
                    return found
                self._changed.wait(left)

    def wait(self, wanted: Callable[[Any], bool] = lambda _: True, timeout_s: float = PATIENCE_S) -> Any:
        """As :meth:`find`, but the test fails if no such message comes."""
        found = self.find(wanted, timeout_s)
        assert found is not None, f"no such message on {self.topic}; the last one is {self._last()}"
        return found

    def _last(self) -> str:
        return repr(self.messages[-1])[:2000] if self.messages else "none at all"


class Probe:
    """The test's own ROS node, spun in a background thread."""

    def __init__(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("probe")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while rclpy.ok():
            with contextlib.suppress(ExternalShutdownException, InvalidHandle):
                self._executor.spin()  # trips over subscriptions that tests end while it waits (rclpy issue 1284)
                return

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(10.0)
        self.node.destroy_node()
        rclpy.try_shutdown()

    @contextlib.contextmanager
    def listening(self, kind: type, topic: str, qos: Any = 10) -> Iterator[Inbox]:
        """Subscribe for the length of a block."""
        inbox = Inbox(topic)
        subscription = self.node.create_subscription(kind, topic, inbox.put, qos)
        try:
            yield inbox
        finally:
            self.node.destroy_subscription(subscription)

    def call(self, kind: type, service: str, request: Any, timeout_s: float = PATIENCE_S) -> Any:
        """Call a service; the test fails if it is not there or does not answer.

        Asked once more after 15 s: DDS loses an answer whose client it discovers late (ros2/ros2#1253).
        """
        client = self.node.create_client(kind, service)
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        try:
            assert client.wait_for_service(timeout_s), f"no service {service}"
            for patience in (15.0, timeout_s):
                client.call_async(request).add_done_callback(lambda future: answers.put(future.result()))
                with contextlib.suppress(queue.Empty):
                    return answers.get(timeout=patience)
            raise AssertionError(f"{service} did not answer")
        finally:
            self.node.destroy_client(client)

    def until(
        self, act: Callable[[], Any], inbox: Inbox, wanted: Callable[[Any], bool], timeout_s: float = PATIENCE_S
    ) -> Any:
        """Repeat ``act`` (publish something) every 0.3 s until the inbox holds what is wanted: discovery takes time."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            act()
            found = inbox.find(wanted, 0.3)
            if found is not None:
                return found
        return inbox.wait(wanted, 0.0)

    def wait_for(
        self, condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S, every_s: float = 0.02
    ) -> None:
        """Wait until a condition of the ROS graph holds, looked at every so many seconds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not happen in {timeout_s} s"
            time.sleep(every_s)


class NodeProcess:
    """One of our executables in its own process, its log kept."""

    def __init__(self, module: str, name: str, parameters: Mapping[str, str], remappings: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", module, "--ros-args", "-r", f"__node:={name}"]
        for key, value in remappings.items():
            command += ["-r", f"{key}:={value}"]
        for key, value in parameters.items():
            command += ["-p", f"{key}:={value}"]
        self.name = name
        self.log: list[str] = []
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=restore_signals
        )
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def send(self, number: int) -> None:
        """Send a signal, should it still run."""
        if self.running:
            self._process.send_signal(number)

    def stop(self, number: int = signal.SIGINT) -> int:
        """Ask it to end; its exit code. One that does not obey is killed, which its exit code shows."""
        self.send(number)
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reader.join(5.0)
        return self._process.wait()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self.log.append(line.rstrip())


class Lidar:
    """The topics and services of one lidar_node, seen from a driver and a user."""

    def __init__(self, probe: Probe, name: str) -> None:
        self.name = name
        self.probe = probe
        self.labelled = f"/{name}/output/points"
        self.features = f"/{name}/output/features"
        self.basis = f"/{name}/output/basis"
        self.label_info = f"/{name}/output/label_info"
        self._publisher = probe.node.create_publisher(PointCloud2, f"/{name}/input/points", qos.SENSOR)

    def close(self) -> None:
        self.probe.node.destroy_publisher(self._publisher)

    def publish(self, message: PointCloud2) -> None:
        """As a driver would: best effort."""
        self._publisher.publish(message)

    def exchange(self, inbox: Inbox, message: PointCloud2) -> Any:
        """The answer to this very message, which is sent again should it get lost."""
        return self.probe.until(lambda: self.publish(message), inbox, stamped_like(message))

    def set_vocabulary(self, words: Sequence[str] = (), classes: Sequence[VocabularyClass] = ()) -> Any:
        """Call the service."""
        request = SetVocabulary.Request(words=list(words), classes=list(classes))
        return self.probe.call(SetVocabulary, f"/{self.name}/set_vocabulary", request)

    def reports(self, wanted: Callable[[DiagnosticStatus], bool]) -> Callable[[DiagnosticArray], bool]:
        """A filter of /diagnostics: this node's status is as wanted."""
        return lambda report: any(wanted(status) for status in self._own(report))

    def status(
        self,
        diagnostics: Inbox,
        wanted: Callable[[DiagnosticStatus], bool] = lambda _: True,
        act: Callable[[], Any] = lambda: None,
    ) -> DiagnosticStatus:
        """This node's first status from now on that is as wanted, while ``act`` is repeated."""
        diagnostics.clear()
        report = self.probe.until(act, diagnostics, self.reports(wanted))
        return next(status for status in self._own(report) if wanted(status))

    def _own(self, report: DiagnosticArray) -> list[DiagnosticStatus]:
        return [status for status in report.status if status.name.startswith(f"{self.name}:")]


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    """A status' values by key."""
    return {pair.key: pair.value for pair in status.values}


def stamped_like(sent: Any) -> Callable[[Any], bool]:
    """A filter for what was made of this message."""
    return lambda received: received.header.stamp == sent.header.stamp


def random_cloud(
    points: int = 500, seed: int = 0, stamp: int | None = None, frame_id: str = "lidar", **columns: np.ndarray
) -> PointCloud2:
    """A random scan of 16 x 16 x 3 m, by default with the present time's stamp; ``columns`` are added or replaced."""
    generator = np.random.default_rng(seed)
    xyz = generator.uniform((-8, -8, -1), (8, 8, 2), (points, 3)).astype(np.float32)
    fields = {"x": xyz[:, 0], "y": xyz[:, 1], "z": xyz[:, 2]}
    fields["intensity"] = generator.random(points).astype(np.float32)
    return messages.point_cloud(fields | columns, stamp or time.time_ns(), frame_id)
