"""`ov3d up`: real nodes as children, their logs, their end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from ros_harness import PATIENCE_S, Lidar, random_cloud
from sensor_msgs.msg import PointCloud2

from ov3d_perception.errors import Ov3dError
from ov3d_perception.ros.tools.up import NodeProcesses, restore_signals, up

pytestmark = pytest.mark.live


class Up:
    """`up(...)` in a process of its own, as a shell starts it."""

    def __init__(self, system: str, *arguments: str) -> None:
        code = "import sys; from ov3d_perception.ros.tools.up import up; sys.exit(up(sys.argv[1], sys.argv[2:]))"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, system, *arguments],
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=restore_signals,
        )
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line.rstrip())
                self._changed.notify_all()

    def wait_for_line(self, *parts: str) -> None:
        with self._changed:
            found = self._changed.wait_for(
                lambda: any(all(part in line for part in parts) for line in self.lines), PATIENCE_S
            )
        assert found, "\n".join(self.lines)

    def children(self) -> list[int]:
        tasks = Path(f"/proc/{self.process.pid}/task")
        return [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]

    def end(self) -> int:
        code = self.process.wait(PATIENCE_S)
        self._reader.join(5.0)
        return code


@pytest.fixture
def started(tiny_model: Path) -> Iterator[list[Up]]:
    """Filled by a test; killed should the test fail."""
    systems: list[Up] = []
    yield systems
    for system in systems:
        if system.process.poll() is None:
            system.process.terminate()
            system.end()


def model(folder: Path) -> list[str]:
    return [f"checkpoint:={folder / 'net.safetensors'}", f"text:={folder / 'bank.npz'}", "device:=cpu"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_and_is_no_failure(number: int, started: list[Up], tiny_model: Path) -> None:
    system = Up("lidar_node", *model(tiny_model))
    started.append(system)
    system.wait_for_line("[lidar_node]", "Configured")
    children = system.children()
    assert len(children) == 1
    system.process.send_signal(number)
    assert system.end() == 0
    assert not [pid for pid in children if _alive(pid)]


def test_a_node_that_ends_takes_the_others_with_it(started: list[Up], tiny_model: Path) -> None:
    """map_node does not start with a parameter out of its range."""
    system = Up("lidar", *model(tiny_model), "map_node.max_voxels:=1")
    started.append(system)
    assert system.end() == 1
    assert any("[up] map_node ended with exit code 1" in line for line in system.lines), system.lines
    assert any("max_voxels" in line for line in system.lines), "the node's own words"


def test_topics_and_parameters_reach_the_node(probe: Any, diagnostics: Any, tiny_model: Path) -> None:
    lines: list[str] = []
    overrides = {
        "checkpoint": str(tiny_model / "net.safetensors"),
        "text": str(tiny_model / "bank.npz"),
        "points": "/roof/points",
        "lidar_node.diagnostics_period": "0.1",
    }
    publisher = probe.node.create_publisher(PointCloud2, "/roof/points", 5)
    lidar = Lidar(probe, "lidar_node")
    with (
        NodeProcesses("lidar_node", overrides, log=lines.append) as nodes,
        probe.listening(PointCloud2, "/lidar_node/output/points") as labelled,
    ):
        probe.until(lambda: publisher.publish(random_cloud()), labelled, lambda _: True)
        lidar.status(diagnostics, lambda s: s.level == DiagnosticStatus.OK)
        assert nodes.ended() is None
    lidar.close()
    probe.node.destroy_publisher(publisher)
    assert nodes.ended() == ("lidar_node", 0)
    assert any("Configured" in line for line in lines)


def test_unknown_systems_are_refused() -> None:
    with pytest.raises(Ov3dError, match="Choose one of: lidar"):
        up("kitchen")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
