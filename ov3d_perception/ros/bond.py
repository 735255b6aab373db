"""The bond by which Nav2's lifecycle manager sees that a node it has activated is alive (``bondpy``, where it is)."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node

_PERIOD_S, _TIMEOUT_S = 0.1, 4.0  # as nav2_util's LifecycleNode


class ManagerBond:
    """One end of the bond; the manager holds the other. Without bondpy it does nothing: docs/navigation.md."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._bond: Any = None

    def form(self) -> None:
        """Begin to send heartbeats; where no manager answers in 10 s, they end."""
        try:
            from bondpy.bondpy import Bond
        except ImportError:
            return
        self._bond = Bond("bond", self._node.get_name(), self._node)
        self._bond.heartbeat_period, self._bond.heartbeat_timeout = _PERIOD_S, _TIMEOUT_S
        self._bond.start()

    def end(self) -> None:
        """Tell the manager that the end is wanted."""
        bond, self._bond = self._bond, None
        if bond is not None:
            bond.shutdown()
