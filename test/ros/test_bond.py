"""The bond with a lifecycle manager, with a stand-in for bondpy: it is no wheel."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ov3d_perception.ros.bond import ManagerBond

NODE: Any = SimpleNamespace(get_name=lambda: "lidar_node")


@pytest.fixture
def bonds(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every bond that is made."""
    made: list[Any] = []

    class Bond:
        """As bondpy.bondpy.Bond of ROS 2: topic, id, node."""

        def __init__(self, topic: str, id: str, node: Any) -> None:
            self.made_of, self.calls = (topic, id, node), []
            made.append(self)

        def start(self) -> None:
            self.calls.append("start")

        def shutdown(self) -> None:
            self.calls.append("shutdown")

    package, module = ModuleType("bondpy"), ModuleType("bondpy.bondpy")
    module.Bond = Bond  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bondpy", package)
    monkeypatch.setitem(sys.modules, "bondpy.bondpy", module)
    return made


def test_a_bond_is_what_the_manager_waits_for(bonds: list[Any]) -> None:
    """nav2_lifecycle_manager: topic "bond", the node's name, 4 s."""
    bond = ManagerBond(NODE)
    bond.form()
    (made,) = bonds
    assert made.made_of == ("bond", "lidar_node", NODE)
    assert (made.heartbeat_timeout, made.heartbeat_period) == (4.0, 0.1)
    bond.end()
    bond.end()
    assert made.calls == ["start", "shutdown"]
    bond.form()
    assert len(bonds) == 2


def test_without_bondpy_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bondpy", None)
    bond = ManagerBond(NODE)
    bond.form()
    bond.end()
