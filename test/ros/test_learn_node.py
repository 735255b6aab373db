"""learn_node: begins at the dock, ends when the robot leaves, and says what became of it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from ros_harness import Inbox, NodeProcess, Probe, values_of
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from ov3d_perception.bags.writer import BagWriter
from ov3d_perception.errors import Ov3dError
from ov3d_perception.ros import learn_node
from ov3d_perception.ros.learn_node import LearnParameters, command, newest_bag

NAME = "learn_here"


def bag(folder: Path, name: str, when: int) -> Path:
    """As a recorder leaves it that died at a time."""
    (folder / name).mkdir(parents=True)
    (folder / name / f"{name}.mcap").write_bytes(b"")
    for path in (folder / name / f"{name}.mcap", folder / name):
        os.utime(path, (when, when))
    return folder / name


def test_the_newest_bag_is_learned(tmp_path: Path) -> None:
    old, new = (bag(tmp_path, name, when) for name, when in (("z_old", 1000), ("a_new", 2000)))
    (tmp_path / "notes").mkdir()
    (old / "z_old.mcap").rename(old / "z_old.mcap.zstd")  # as rosbag2 compresses files
    os.utime(old, (1000, 1000))
    assert newest_bag(LearnParameters(site="s", bags=str(tmp_path))) == new
    assert newest_bag(LearnParameters(site="s", bags=str(old))) == old
    for values in (LearnParameters(bags=str(tmp_path)), LearnParameters(site="s", bags=str(tmp_path / "notes"))):
        with pytest.raises(Ov3dError):
            newest_bag(values)


def test_a_bag_that_is_being_recorded_is_not_learned(tmp_path: Path) -> None:
    """Neither is an older one in its place: today's would have to wait for tomorrow's docking. One whose recorder died
    is, some time after the last write."""
    older, now = bag(tmp_path, "older", 1000), time.time()
    values, new = LearnParameters(site="s", bags=str(tmp_path)), bag(tmp_path, "new", int(now))
    for one in (values, LearnParameters(site="s", bags=str(new)), LearnParameters(site="s", bags=f"{new}/new.mcap")):
        with pytest.raises(Ov3dError, match="still being recorded"):
            newest_bag(one)
    (new / "metadata.yaml").write_text("rosbag2_bagfile_information:")
    assert newest_bag(values) == new, "its recorder has ended"
    (new / "metadata.yaml").unlink()
    os.utime(new / "new.mcap", (now - 60, now - 60))
    assert newest_bag(values) == new, "its recorder has died"
    (new / "new.mcap-wal").write_bytes(b"")
    with pytest.raises(Ov3dError, match="still being recorded"):
        newest_bag(values)
    assert newest_bag(LearnParameters(site="s", bags=str(older))) == older
    with BagWriter(tmp_path / "whole"):
        pass
    assert newest_bag(LearnParameters(site="s", bags=f"{tmp_path}/whole/whole.mcap")).name == "whole.mcap"


@pytest.mark.live
def test_at_the_dock_it_is_tried_again(probe: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dock says once that the robot is there, before the recorder has ended."""
    monkeypatch.setattr(learn_node, "_AGAIN_S", 0.02)
    monkeypatch.setattr(learn_node, "command", lambda *_: [sys.executable, "-c", ""])
    new = bag(tmp_path, "new", int(time.time()))
    overrides = [Parameter("site", value=str(tmp_path / "site")), Parameter("bags", value=str(tmp_path))]
    node, executor = learn_node.LearnNode(parameter_overrides=overrides), SingleThreadedExecutor()
    executor.add_node(node)

    def until(condition: Callable[[], bool]) -> None:
        probe.wait_for(lambda: executor.spin_once(timeout_sec=0.1) or condition(), "what the node was to do", 20.0)

    try:
        with pytest.raises(Ov3dError, match="still being recorded"):
            node._on_docked(Bool(data=True))
        until(lambda: "still being recorded" in node._health.status().message)
        assert node._child is None
        (new / "metadata.yaml").write_text("rosbag2_bagfile_information:")
        until(lambda: node._child is not None)
        first = node._child
        until(lambda: node._health.status().message == "OK")
        assert node._child is first, "what was begun is not begun again"
    finally:
        node.close()
        executor.shutdown()
        node.destroy_node()


def test_a_folder_that_may_not_be_read_is_no_bag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """lost+found at the top of a disk is root's alone."""
    good, found, real = bag(tmp_path, "good", 1000), bag(tmp_path, "lost+found", 2000), Path.iterdir

    def iterdir(path: Path) -> Any:
        if path == found:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert newest_bag(LearnParameters(site="s", bags=str(tmp_path))) == good


def test_the_command_is_one_that_ov3d_has(tmp_path: Path) -> None:
    from typer.main import get_command

    from ov3d_perception.cli import app

    values = LearnParameters(site=str(tmp_path / "site"), options=("--set points=/velodyne_points",))
    words = command(values, tmp_path / "bag")
    learn = get_command(app).commands["learn"]  # type: ignore[attr-defined]
    context = learn.make_context("learn", list(words[words.index("learn") + 1 :]), resilient_parsing=True)
    assert context.params["settings"] == ["points=/velodyne_points"] and context.params["live"] is True
    assert context.params["nice"] == 19 and context.params["bag"] == [tmp_path / "bag"]


@pytest.mark.live
def test_docking_begins_leaving_ends_and_a_failure_is_told(
    start_node: Callable[..., NodeProcess], probe: Probe, diagnostics: Inbox, tmp_path: Path
) -> None:
    """The bag is empty, so that the work fails; what it is, is tested elsewhere. It comes after the docking."""
    (tmp_path / "bags").mkdir()
    parameters = {"site": str(tmp_path / "site"), "bags": str(tmp_path / "bags"), "diagnostics_period": "0.1"}
    parameters |= {"nice": "0"}  # on a machine at work, one that gives way may not even begin in time
    process = start_node("ov3d_perception.ros.learn_node", NAME, parameters)

    def status(wanted: Callable[[Any], bool], act: Callable[[], Any] = lambda: None) -> Any:
        diagnostics.clear()

        def own(report: Any) -> list[Any]:
            return [s for s in report.status if s.name.startswith(f"{NAME}:") and wanted(s)]

        return own(probe.until(act, diagnostics, lambda report: bool(own(report))))[0]

    assert values_of(status(lambda s: True))["state"] == "idle"
    probe.wait_for(
        lambda: f"once /{NAME}/input/docked says true" in "".join(process.log), "a word of what it waits for"
    )
    publisher = probe.node.create_publisher(Bool, f"/{NAME}/input/docked", 10)
    try:
        none = status(lambda s: int(values_of(s).get("failures", 0)) > 1, lambda: publisher.publish(Bool(data=True)))
        assert "There is no bag in" in none.message, "as long as that is so"
        bag(tmp_path / "bags", "empty", 1000)
        status(lambda s: values_of(s)["state"] != "idle", lambda: publisher.publish(Bool(data=True)))
        found = status(lambda s: "failed" in values_of(s))
        assert "Learning ended with 2" in found.message and values_of(found)["docked"] == "True"
    finally:
        probe.node.destroy_publisher(publisher)
    answer = probe.call(Trigger, f"/{NAME}/start", Trigger.Request())
    assert answer.success and "Learning" in answer.message
    answer = probe.call(Trigger, f"/{NAME}/stop", Trigger.Request())
    assert answer.success and ("goes on" in answer.message or "Nothing" in answer.message)
    probe.call(Trigger, f"/{NAME}/start", Trigger.Request())
    os.kill(working_on(tmp_path / "site"), signal.SIGKILL)  # as the kernel does where memory is short
    assert "Learning was ended by SIGKILL" in status(lambda s: "ended by" in s.message).message


def working_on(site: Path) -> int:
    """The process that learns a site."""
    for words in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if f"\0learn\0{site}\0".encode() in words.read_bytes():
                return int(words.parent.name)
    raise AssertionError("Nothing is being learned")
