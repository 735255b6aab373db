"""A run's memory of what is done, and that one site is learned by one process at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ov3d_perception import stopwatch
from ov3d_perception.errors import LedgerError
from ov3d_perception.learning.order import Order, Run, alone


def test_a_stage_is_done_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def work() -> dict[str, int]:
        calls.append(1)
        return {"frames": 3}

    assert Run(tmp_path).stage("bags", work) == Run(tmp_path).stage("bags", work) == {"frames": 3}
    assert len(calls) == 1 and "bags" in Run(tmp_path).seconds


def test_what_a_stage_spends_in_network_and_teacher_is_written_down(tmp_path: Path) -> None:
    stopwatch.add(stopwatch.NETWORK, 100.0)  # before it
    Run(tmp_path).stage("gate", lambda: stopwatch.add(stopwatch.NETWORK, 6.0))
    run = Run(tmp_path)
    assert run.spent["gate"][stopwatch.NETWORK] == 6.0
    state = {"train": {"seconds": 8.0, "spent": {"network": 5.0, "teacher": 2.0}}, "bags": {"seconds": 2.0}}
    (tmp_path / "state.yaml").write_text(yaml.safe_dump(state))
    assert Run(tmp_path).used() == pytest.approx(0.7), "bags: of a state that was written before this was counted"


def test_a_stage_that_fails_is_not_done(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with pytest.raises(ZeroDivisionError):
        run.stage("train", lambda: 1 / 0)
    assert not Run(tmp_path).done("train") and run.stage("train", lambda: 7) == 7


def test_the_same_order_is_the_same_run_whatever_time_it_has(tmp_path: Path) -> None:
    order = Order(tmp_path / "site", (tmp_path / "drive",))
    assert order.key("") == Order(tmp_path / "moved", (tmp_path / "drive",), hours=1.0).key("")
    assert order.key("") != Order(tmp_path / "site", (tmp_path / "other",)).key("")
    assert order.key("") != Order(tmp_path / "site", (tmp_path / "drive",), frames=99).key("")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(LedgerError, match="another process"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass
