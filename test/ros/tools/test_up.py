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
from ros_harness import PATIENCE_S, Lidar, NodeProcess, random_cloud, values_of
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
    system.wait_for_line("[up] Starting lidar_node")
    system.wait_for_line("[lidar_node]", "Configured")
    children = system.children()
    assert len(children) == 1
    system.process.send_signal(number)
    assert system.end() == 0
    assert not [pid for pid in children if _alive(pid)]
    assert not [line for line in system.lines if "Traceback" in line or "ERROR" in line or "invalid" in line]


def test_a_node_that_ends_takes_the_others_with_it(started: list[Up], tiny_model: Path, tmp_path: Path) -> None:
    """map_node does not start with a parameter out of its range: one line that names it, no traceback."""
    file = tmp_path / "own.yaml"
    file.write_text("/**/map_node: {ros__parameters: {max_voxels: 1}}")
    system = Up("lidar", *model(tiny_model), f"params_file:={file}")
    started.append(system)
    assert system.end() == 2
    assert any("[up] map_node ended with exit code 2" in line for line in system.lines), system.lines
    told = [line for line in system.lines if "max_voxels" in line]
    assert told and "is 1; it takes a whole number from 1000 to" in told[0], system.lines
    assert not any("Traceback" in line for line in system.lines)


def test_a_second_signal_cuts_nothing_off(probe: Any, bank: Path) -> None:
    """As a terminal and a launcher both send it: the node closes as after one, and nothing is red."""
    node = NodeProcess("ov3d_perception.ros.map_node", "signalled", {"text": str(bank)}, {})
    probe.wait_for(lambda: "signalled" in probe.node.get_node_names(), "the start of the node")
    for _ in range(3):
        node.send(signal.SIGINT)
    assert node.stop() == 0, node.log
    assert not [line for line in node.log if "Traceback" in line or "ERROR" in line or "invalid" in line], node.log


def test_two_robots_keep_to_themselves(probe: Any, diagnostics: Any, tiny_model: Path, tmp_path: Path) -> None:
    """Both nodes of each robot below its namespace: features reach its own map, `--robot` chooses whom to ask."""
    file = tmp_path / "own.yaml"
    file.write_text("/**/lidar_node: {ros__parameters: {tf_timeout: 1, vocabularies: [car]}}")
    lines: list[str] = []
    settings = {
        **{"checkpoint": str(tiny_model / "net.safetensors"), "text": str(tiny_model / "bank.npz")},
        **{"map_frame": "lidar", "fixed_frame": "lidar", "params_file": str(file)},
        **{f"{name}.diagnostics_period": "0.1" for name in ("lidar_node", "map_node")},
    }
    publishers = {name: probe.node.create_publisher(PointCloud2, f"/{name}/points", 5) for name in ("r1", "r2")}

    def integrated(report: Any) -> dict[str, int]:
        found = {s.hardware_id: values_of(s) for s in report.status if s.name == "map_node: map"}
        return {robot: int(values.get("integrated", 0)) for robot, values in found.items()}

    with (
        NodeProcesses("lidar", settings | {"namespace": "r1"}, log=lines.append),
        NodeProcesses("lidar", settings | {"namespace": "/r2"}, log=lines.append),
    ):
        publish = lambda: publishers["r1"].publish(random_cloud())  # noqa: E731
        probe.until(publish, diagnostics, lambda report: integrated(report).get("/r1", 0) > 0)
        diagnostics.clear()
        heard = probe.until(publish, diagnostics, lambda report: "/r2" in integrated(report))
        assert integrated(heard)["/r2"] == 0
        ask = [sys.executable, "-m", "ov3d_perception.cli", "--robot"]
        answers = {
            robot: subprocess.run([*ask, robot, "query", "car", "--timeout", "10"], capture_output=True, text=True)
            for robot in ("r1", "r2", "r3")
        }
    for publisher in publishers.values():
        probe.node.destroy_publisher(publisher)
    assert answers["r1"].stderr == "" and "Nothing has been mapped" not in answers["r1"].stdout, answers
    assert "Nothing has been mapped" in answers["r2"].stdout, answers
    assert "/r3/map_node/query" in answers["r3"].stderr and "ov3d --robot r1" in answers["r3"].stderr, answers
    assert any("no parameter 'vocabularies'; did you mean vocabulary" in line for line in lines), lines


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


def test_starting_nodes_needs_no_pytorch() -> None:
    """Two seconds before the nodes begin to start; a launch file imports the same."""
    code = "import sys, ov3d_perception.ros.tools.up; print(sorted({'torch', 'open_clip'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "[]\n", result.stderr


def test_unknown_systems_are_refused() -> None:
    with pytest.raises(Ov3dError, match="Choose one of: lidar"):
        up("kitchen")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
