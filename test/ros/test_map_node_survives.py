"""map_node goes on, and keeps its map, whatever an answer's libraries raise; the node is in the test's process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from map_harness import Mapper, block
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.parameter import Parameter
from ros_harness import Inbox, Probe, values_of
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import Trigger

from ov3d_msgs.srv import LoadMap, QueryText, SaveMap
from ov3d_perception.language.bank import TextBank
from ov3d_perception.mapping.labels import MapLabels
from ov3d_perception.mapping.save_load import read_info

pytestmark = pytest.mark.live

CAR = block((0, 0, 0), (20, 9, 7))
TREE = block((9, 9, 0), (5, 5, 20))


class Hosted:
    """A map_node in a thread of this process, as its supervisor sees it: restarted with the same parameters."""

    def __init__(self, name: str, values: dict[str, Any]) -> None:
        from ov3d_perception.ros.map_node import MapNode

        overrides = [Parameter(key, value=value) for key, value in values.items()]
        self.node = MapNode(parameter_overrides=overrides, cli_args=["--ros-args", "-r", f"__node:={name}"])
        self.raised: list[BaseException] = []
        self._executor = MultiThreadedExecutor(num_threads=4)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass
        except Exception as error:
            self.raised.append(error)

    def end(self) -> None:
        self.node.close()
        self._executor.shutdown(timeout_sec=5.0)
        self._thread.join(10.0)
        self.node.destroy_node()


@pytest.fixture
def hosted(
    probe: Probe, diagnostics: Inbox, bank: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Mapper, Callable[[], Hosted]]]:
    """The other end of the topics, and what starts (again) the node, the former one being ended."""
    mapper = Mapper(probe, diagnostics, f"survivor_{time.time_ns() % 10**9}")
    values = {"text": str(bank), "map_frame": mapper.map_frame, "diagnostics_period": 0.1, "publish_period": 0.1}
    values |= {"min_observations": 1, "min_voxels": 10, "map_file": str(tmp_path / "a.ov3dmap"), "save_at_exit": True}
    running: list[Hosted] = []

    def start() -> Hosted:
        if running:
            running.pop().end()
        running.append(Hosted(mapper.name, values))
        return running[0]

    yield mapper, start
    running.pop().end()
    mapper.close()


def test_a_text_source_that_raises_costs_the_answer_only(
    hosted: tuple[Mapper, Callable[[], Hosted]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    embed = TextBank.embed

    def raising(self: TextBank, words: Sequence[str]) -> np.ndarray:
        if "giraffe" in words:
            raise RuntimeError("the text tower is gone")
        return embed(self, words)

    mapper, start = hosted
    host = start()
    mapper.publish_basis()
    mapper.drive({"car": CAR})
    monkeypatch.setattr(TextBank, "embed", raising)
    service = f"/{mapper.name}/query"
    answer = mapper.probe.call(QueryText, service, QueryText.Request(words=["giraffe"]), timeout_s=20.0)
    assert answer.status == QueryText.Response.BAD_REQUEST and "the text tower is gone" in answer.message
    status = mapper.status(lambda s: values_of(s).get("failures") == "1")
    assert "the text tower is gone" in values_of(status)["last error"]
    assert mapper.ask("car").status == QueryText.Response.OK and not host.raised
    again = start()  # as a supervisor would: the map is saved at the exit and loaded at the start
    assert read_info(tmp_path / "a.ov3dmap").voxels == len(CAR)
    assert mapper.ask("car").matches[0].count == len(CAR) and not again.raised


@pytest.mark.parametrize("how", ["cleared", "loaded"])
def test_the_map_is_replaced_beside_publish(
    how: str, hosted: tuple[Mapper, Callable[[], Hosted]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """~/clear or ~/load_map in the middle of a publication: between the check of the labels and their use."""
    mapper, start = hosted
    host, file = start(), str(tmp_path / "other.ov3dmap")
    labelled, seen, replaced = threading.Event(), threading.Event(), threading.Event()
    update = MapLabels.update

    def replace() -> None:
        if how == "cleared":
            host.node._on_clear(Trigger.Request(), Trigger.Response())
        else:
            host.node._storage._on_load(LoadMap.Request(path=file), LoadMap.Response())

    def updated(labels: MapLabels) -> Any:
        found = update(labels)
        labelled.set()
        return found

    def semantic_map(labels: MapLabels) -> Any:
        """Read by the check, which comes before the update, of a publication after one that was seen."""
        if labelled.is_set() and seen.is_set() and not replaced.is_set():
            replaced.set()
            replace()
        return labels.__dict__["kept"]

    def keep(labels: MapLabels, value: Any) -> None:
        labels.__dict__["kept"] = value

    mapper.publish_basis()
    mapper.drive({"car": CAR})
    assert mapper.probe.call(SaveMap, f"/{mapper.name}/save_map", SaveMap.Request(path=file)).success
    mapper.drive({"tree": TREE})
    monkeypatch.setattr(MapLabels, "semantic_map", property(semantic_map, keep), raising=False)
    monkeypatch.setattr(MapLabels, "update", updated)
    with mapper.probe.listening(PointCloud2, f"/{mapper.name}/output/map") as inbox:
        inbox.wait(lambda cloud: cloud.width == len(CAR) + len(TREE), timeout_s=15.0)
        seen.set()
        mapper.probe.wait_for(lambda: replaced.is_set() or bool(host.raised), "replacing")
        shown = inbox.wait(lambda cloud: cloud.width == (0 if how == "cleared" else len(CAR)), timeout_s=15.0)
        assert shown.header.frame_id == mapper.map_frame, "the old cloud is taken from the display"
    status = QueryText.Response.NO_MAP if how == "cleared" else QueryText.Response.OK
    assert mapper.ask("car").status == status and not host.raised
    assert values_of(mapper.status()).get("failures", "0") == "0"
