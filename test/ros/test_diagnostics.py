"""What a node tells of its health."""

from __future__ import annotations

import pytest

from ov3d_perception.errors import PointCloudError
from ov3d_perception.ros.diagnostics import ERROR, OK, STALE, WARN, Health


def values_of(health: Health) -> dict[str, str]:
    return {pair.key: pair.value for pair in health.status().values}


def test_the_worst_condition_speaks() -> None:
    health = Health("node: task", "robot")
    assert (health.status().level, health.status().message) == (OK, "OK")
    health.set("tf", WARN, "late")
    health.set("input", STALE, "silent")
    assert (health.status().level, health.status().message) == (STALE, "silent")
    health.set("scan", ERROR, "broken")
    assert (health.status().level, health.status().message) == (ERROR, "broken")
    health.clear("scan")
    health.clear("input")
    assert (health.status().level, health.status().message) == (WARN, "late")
    health.clear("tf")
    health.clear("never set")
    assert health.status().level == OK
    assert (health.status().name, health.status().hardware_id) == ("node: task", "robot")


def test_the_last_error_outlives_its_condition() -> None:
    health = Health("node")
    assert values_of(health)["last error"] == "none"
    assert health.fail("scan", PointCloudError("It is empty", "Fill it")) == "It is empty. Fill it."
    health.clear("scan")
    assert health.status().level == OK
    assert values_of(health)["last error"] == "It is empty. Fill it."


def test_errors_of_other_libraries_are_named() -> None:
    health = Health("node")
    assert health.fail("scan", ValueError("odd")) == "ValueError: odd"


def test_stage_times_are_median_and_worst() -> None:
    health = Health("node")
    for seconds in (0.001, 0.002, 0.009):
        health.spent("network", seconds)
    assert values_of(health)["network [ms]"] == "2.00"
    assert values_of(health)["network worst [ms]"] == "9.00"


def test_old_stage_times_are_forgotten() -> None:
    health = Health("node")
    health.spent("network", 1.0)
    for _ in range(50):
        health.spent("network", 0.001)
    assert values_of(health)["network worst [ms]"] == "1.00"


def test_a_failing_stage_is_timed_too() -> None:
    health = Health("node")
    with pytest.raises(ZeroDivisionError), health.timed("network"):
        _ = 1 / 0
    assert "network [ms]" in values_of(health)


def test_counts_and_values() -> None:
    health = Health("node")
    health.count("received")
    assert health.count("received", 2) == 3
    health.value("voxels", 12)
    assert values_of(health)["received"] == "3"
    assert values_of(health)["voxels"] == "12"
