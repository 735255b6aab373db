"""Live tests: real rclpy, nodes in processes of their own, a ROS domain that no other test session uses.

Everything waits for events with a bound; nothing sleeps for a fixed time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pytest

# Read by the message modules when they are imported: every assignment in the tests is type-checked.
os.environ["ROS_PYTHON_CHECK_FIELDS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # many small networks side by side

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("ov3d_msgs", reason="ov3d_msgs is not built")

_DOMAINS = range(10, 100)  # above, DDS ports reach into the range of outgoing connections
_PATIENCE_S = 60.0  # for anything that a loaded machine may take its time over


@pytest.fixture(scope="session", autouse=True)
def ros_domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A ROS_DOMAIN_ID held by a file lock, so that parallel sessions on one machine never meet."""
    from ov3d_perception.ros.environment import use_large_messages

    with contextlib.ExitStack() as stack:
        for domain in random.sample(_DOMAINS, len(_DOMAINS)):
            lock = stack.enter_context(open(f"/tmp/ov3d_test_domain_{domain}.lock", "w"))  # noqa: SIM115
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
        else:
            pytest.fail("every ROS domain is taken by another test session")
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        os.environ["ROS_LOG_DIR"] = str(tmp_path_factory.mktemp("ros_log"))
        use_large_messages()
        yield domain


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

    def wait(self, wanted: Callable[[Any], bool] = lambda _: True, timeout_s: float = _PATIENCE_S) -> Any:
        """As :meth:`find`, but the test fails if no such message comes."""
        found = self.find(wanted, timeout_s)
        assert found is not None, f"no such message on {self.topic}; the last one is {self._last()}"
        return found

    def _last(self) -> str:
        return repr(self.messages[-1])[:2000] if self.messages else "none at all"


class Probe:
    """The test's own ROS node, spun in a background thread."""

    def __init__(self) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        rclpy.init()
        self.node = rclpy.create_node("probe")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        from rclpy.executors import ExternalShutdownException

        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def close(self) -> None:
        import rclpy

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

    def call(self, kind: type, service: str, request: Any, timeout_s: float = _PATIENCE_S) -> Any:
        """Call a service; the test fails if it is not there or does not answer."""
        client = self.node.create_client(kind, service)
        try:
            assert client.wait_for_service(timeout_s), f"no service {service}"
            done = threading.Event()
            future = client.call_async(request)
            future.add_done_callback(lambda _: done.set())
            assert done.wait(timeout_s), f"{service} did not answer"
            return future.result()
        finally:
            self.node.destroy_client(client)

    def until(
        self, act: Callable[[], Any], inbox: Inbox, wanted: Callable[[Any], bool], timeout_s: float = _PATIENCE_S
    ) -> Any:
        """Repeat ``act`` (publish something) every 0.3 s until the inbox holds what is wanted: discovery takes time."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            act()
            found = inbox.find(wanted, 0.3)
            if found is not None:
                return found
        return inbox.wait(wanted, 0.0)

    def wait_for(self, condition: Callable[[], bool], what: str, timeout_s: float = _PATIENCE_S) -> None:
        """Wait until a condition of the ROS graph holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not happen in {timeout_s} s"
            time.sleep(0.02)


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
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=_restore_signals
        )
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self, number: int = signal.SIGINT) -> int:
        """Ask it to end; its exit code. Kills it, and fails, if it does not."""
        if self.running:
            self._process.send_signal(number)
        try:
            return self._process.wait(30.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            pytest.fail(f"{self.name} does not end after a signal; its log:\n" + "\n".join(self.log))
        finally:
            self._reader.join(5.0)

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self.log.append(line.rstrip())


def _restore_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.fixture(scope="session")
def probe(ros_domain: int) -> Iterator[Probe]:
    """The test session's own node."""
    probe = Probe()
    yield probe
    probe.close()


@pytest.fixture(scope="module")
def start_node() -> Iterator[Callable[..., NodeProcess]]:
    """start_node(module, name, parameters, remappings): processes that end with the test module, cleanly."""
    processes: list[NodeProcess] = []

    def start(
        module: str, name: str, parameters: Mapping[str, str], remappings: Mapping[str, str] | None = None
    ) -> NodeProcess:
        processes.append(NodeProcess(module, name, parameters, remappings or {}))
        return processes[-1]

    yield start
    failures = [(p.name, code, p.log) for p in processes if (code := p.stop()) != 0]
    assert not failures, failures


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random network (``net.safetensors``) and a text bank of its encoder (``bank.npz``)."""
    import numpy as np
    import torch

    from ov3d_perception.language.vocabulary import TextBank
    from ov3d_perception.networks.checkpoint import CheckpointInfo, save_checkpoint
    from ov3d_perception.types import EncoderIdentity

    folder = tmp_path_factory.mktemp("model")
    identity = EncoderIdentity("tiny", "test", 8)
    generator = np.random.default_rng(1)
    words = ["car", "truck", "tree", "bush", "road", "building", "person"]
    TextBank(words, generator.normal(size=(len(words), 8)), identity).save(folder / "bank.npz")
    other = EncoderIdentity("other", "test", 8)
    TextBank(words, generator.normal(size=(len(words), 8)), other).save(folder / "other_bank.npz")
    torch.manual_seed(1)
    info = CheckpointInfo(
        arch="MinkUNet14A",
        width=0.125,
        inputs=("ones", "intensity"),
        voxel_size=0.2,
        identity=identity,
        vocabulary={"car": ["car", "truck"], "tree": ["tree", "bush"], "road": ["road"]},
    )
    save_checkpoint(folder / "net.safetensors", info.build(), info)
    return folder
