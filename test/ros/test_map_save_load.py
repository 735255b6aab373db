"""map_node's file, live: saved and loaded by services of another process, at start, at times and at the end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from map_harness import IDENTITY, Mapper, block
from ros_harness import NodeProcess, values_of
from sensor_msgs.msg import PointCloud2

from ov3d_msgs.srv import LoadMap, QueryText, SaveMap
from ov3d_perception.mapping.basis import Basis
from ov3d_perception.mapping.save_load import load_map, read_info, save_map
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.types import EncoderIdentity

pytestmark = pytest.mark.live

Answer = QueryText.Response
CAR, TREE = block((0, 0, 0), (20, 9, 7)), block((8, 4, 0), (5, 5, 15))


def save(mapper: Mapper, path: object = "") -> SaveMap.Response:
    return mapper.probe.call(SaveMap, f"/{mapper.name}/save_map", SaveMap.Request(path=str(path)))


def load(mapper: Mapper, path: object = "", merge: bool = False) -> LoadMap.Response:
    return mapper.probe.call(LoadMap, f"/{mapper.name}/load_map", LoadMap.Request(path=str(path), merge=merge))


def made(path: Path, frame: str, things: dict[int, np.ndarray], **options: Any) -> Path:
    """A map file with things of the harness' words by number."""
    values: dict[str, Any] = {"head": np.eye(4, dtype=np.float32), "identity": IDENTITY, "logit_scale": 10.0}
    semantic_map = SemanticMap(0.2, frame_id=frame, **values | options)
    for word, centres in things.items():
        semantic_map.integrate(centres, np.tile(np.eye(4, dtype=np.float32)[word], (len(centres), 1)), 7 * 10**9)
    save_map(semantic_map, path)
    return path


@pytest.fixture(scope="module")
def mapper(mapper_named: Callable[..., Mapper]) -> Mapper:
    return mapper_named("storage_main")


@pytest.fixture
def empty(mapper: Mapper) -> Mapper:
    """The node with its basis and nothing mapped."""
    mapper.publish_basis()
    mapper.clear()
    return mapper


def test_saved_cleared_and_loaded_it_answers_the_same(empty: Mapper, tmp_path: Path) -> None:
    nothing = save(empty, tmp_path / "site.ov3dmap")
    assert not nothing.success and "Nothing has been mapped" in nothing.message
    empty.drive({"car": CAR, "tree": TREE}, x=100.0)
    before = empty.ask("car", "tree")
    saved = save(empty, tmp_path / "site.ov3dmap")
    assert saved.success and saved.voxels == len(CAR) + len(TREE) == read_info(tmp_path / "site.ov3dmap").voxels
    empty.clear()
    assert empty.ask("car").status == Answer.NO_MAP
    loaded = load(empty, tmp_path / "site.ov3dmap")
    assert loaded.success and loaded.voxels == saved.voxels, loaded.message
    after = empty.ask("car", "tree")
    assert after.matches == before.matches and after.header.stamp == before.header.stamp
    status = empty.drive({"car": CAR}, x=120.0)
    assert int(values_of(status)["voxels"]) == len(CAR) * 2 + len(TREE), "the map goes on"


def test_cleared_and_loaded_again_and_again_while_scans_come_and_the_map_is_shown(
    empty: Mapper, tmp_path: Path
) -> None:
    site = made(tmp_path / "site", empty.map_frame, {0: CAR, 1: TREE})
    both = len(CAR) + len(TREE)
    assert load(empty, site).success
    with empty.probe.listening(PointCloud2, f"/{empty.name}/output/map") as shown:
        shown.wait(lambda cloud: cloud.width == both)
        for _ in range(10):
            stamp = time.time_ns()
            empty.publish_pose(stamp)
            empty.publish_features({"car": CAR}, stamp)
            assert empty.clear().success
            assert empty.ask("car").status in (Answer.OK, Answer.NO_MAP, Answer.NOTHING_FOUND)
            assert load(empty, site).success
        shown.clear()
        shown.wait(lambda cloud: cloud.width == both)
        emptied = empty.probe.until(empty.clear, shown, lambda cloud: cloud.width == 0)
    assert emptied.header.frame_id == empty.map_frame
    values = values_of(empty.status())
    assert values["voxels"] == "0" and values["failures"] == "0", values
    assert empty.ask("car").status == Answer.NO_MAP


def test_merging_adds_to_what_is_there(empty: Mapper, tmp_path: Path) -> None:
    empty.drive({"car": CAR})
    other = made(tmp_path / "other", empty.map_frame, {1: TREE, 0: CAR + np.float32([30, 0, 0])})
    answer = load(empty, other, merge=True)
    assert answer.success and answer.voxels == 2 * len(CAR) + len(TREE)
    assert len(empty.ask("car").matches) == 2


def test_what_does_not_fit_changes_nothing_and_says_why(empty: Mapper, tmp_path: Path) -> None:
    empty.drive({"car": CAR})
    frame, good = empty.map_frame, made(tmp_path / "good", empty.map_frame, {1: TREE})
    damaged = tmp_path / "damaged"
    damaged.write_bytes(good.read_bytes()[:-1] + b"\xff")
    (tmp_path / "nothing").write_bytes(b"")
    other = {"identity": EncoderIdentity("other", "test", 4)}
    turned = {"head": np.eye(4, dtype=np.float32)[::-1].copy()}
    cases = [
        (tmp_path / "nowhere", "There is no map file"),
        (damaged, "does not match its checksum"),
        (tmp_path / "nothing", "is empty"),
        (made(tmp_path / "frame", "elsewhere", {1: TREE}), "'elsewhere'"),
        (made(tmp_path / "network", frame, {1: TREE}, **turned), "another network"),
        (made(tmp_path / "encoder", frame, {1: TREE}, **turned, **other), "other/test/4"),
        ("", "names no file"),
    ]
    for path, words in cases:
        for merge in (
            (True,) if str(path).endswith("network") else (False, True)
        ):  # alone, it is brought into this one's
            answer = load(empty, path, merge)
            assert not answer.success and words in answer.message, (path, merge, answer.message)
            assert answer.voxels == len(CAR)
    refused = save(empty, damaged / "x")
    assert not refused.success and "could not be written" in refused.message
    status = empty.status(lambda s: s.level == DiagnosticStatus.ERROR)
    assert "could not be written" in status.message
    assert load(empty, good, merge=True).success
    empty.status(lambda s: s.level == DiagnosticStatus.OK)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_loaded_at_start_and_saved_at_the_end(
    number: signal.Signals,
    mapper_named: Callable[..., Mapper],
    start_node: Callable[..., NodeProcess],
    bank: Path,
    tmp_path: Path,
) -> None:
    """Ctrl-C, and what ``docker stop`` and systemd send."""
    name = f"storage_exit_{number.name.lower()}"
    path = made(tmp_path / "site.ov3dmap", f"{name}_map", {0: CAR})
    own = {"text": str(bank), "map_frame": f"{name}_map", "diagnostics_period": "0.1", "min_observations": "1"}
    process = start_node("ov3d_perception.ros.map_node", name, own | {"map_file": str(path), "save_at_exit": "true"})
    beside = mapper_named(f"{name}_beside")  # its publishers and clients serve for both
    mapper = Mapper(beside.probe, beside._diagnostics, name)
    try:
        assert mapper.ask("car").matches[0].count == len(CAR)
        mapper.publish_basis()
        mapper.drive({"tree": TREE})
        assert read_info(path).voxels == len(CAR)
        assert process.stop(number) == 0
    finally:
        mapper.close()
    assert read_info(path).voxels == len(load_map(path)) == len(CAR) + len(TREE)


def test_a_damaged_file_at_start(mapper_named: Callable[..., Mapper], tmp_path: Path) -> None:
    path = tmp_path / "site.ov3dmap"
    made(path, "storage_damaged_map", {0: CAR})
    spoilt = path.read_bytes()[:-100]
    path.write_bytes(spoilt)
    mapper = mapper_named("storage_damaged", map_file=str(path), autosave_period="0.1", save_at_exit="true")
    status = mapper.status(lambda s: s.level == DiagnosticStatus.ERROR)
    assert "starts empty" in status.message and str(path) in status.message and "damaged" in status.message
    mapper.publish_basis()
    mapper.drive({"tree": TREE})
    mapper.status(lambda s: "was not loaded at start" in s.message)
    assert not save(mapper).success and path.read_bytes() == spoilt, "nobody asked for it by name"
    assert save(mapper, path).success and read_info(path).voxels == len(TREE)


def test_it_saves_itself_now_and_then(mapper_named: Callable[..., Mapper], tmp_path: Path) -> None:
    path = tmp_path / "new" / "site.ov3dmap"
    mapper = mapper_named("storage_auto", map_file=str(path), autosave_period="0.1")
    mapper.publish_basis()
    mapper.drive({"car": CAR})
    mapper.status(lambda s: f"{len(CAR)} voxels saved" in values_of(s).get("map file", ""))
    assert read_info(path).voxels == len(CAR)
    other = Basis(2 * np.eye(4, dtype=np.float32), IDENTITY, 10.0)
    assert mapper.clear().success
    mapper.publish_basis(other)
    kept = path.read_bytes()

    def send() -> None:
        stamp = mapper.probe.node.get_clock().now().nanoseconds
        mapper.publish_pose(stamp)
        mapper.publish_features({"tree": TREE}, stamp, other)

    status = mapper.status(lambda s: "the map of another network" in s.message, send)
    assert status.level == DiagnosticStatus.ERROR and path.read_bytes() == kept


def test_the_command_line_saves_and_loads(start_node: Callable[..., NodeProcess], bank: Path, tmp_path: Path) -> None:
    """``ov3d map`` talks to the node of the usual name; paths are those of its own folder."""
    made(tmp_path / "site.ov3dmap", "map", {0: CAR, 1: TREE})
    start_node("ov3d_perception.ros.map_node", "map_node", {"text": str(bank), "min_observations": "1"})

    def ov3d(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ov3d_perception.cli", "map", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=tmp_path)

    loaded = ov3d("load", "site.ov3dmap")
    assert loaded.returncode == 0 and f"Loaded {len(CAR) + len(TREE)} voxels" in loaded.stdout, loaded.stderr
    saved = ov3d("save", "copy.ov3dmap")
    assert saved.returncode == 0 and read_info(tmp_path / "copy.ov3dmap").voxels == len(CAR) + len(TREE)
    missing = ov3d("load", "nowhere.ov3dmap", "--merge")
    assert missing.returncode == 1 and "There is no map file" in missing.stdout
