"""Transforms of messages into the tree: what cannot be a transform is skipped and counted, as tf2 ignores it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ov3d_perception.bags import messages
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.bags.writer import BagWriter

S = 1_000_000_000


def broken(kind: str) -> Any:
    message = messages.tf_message([("odom", "base", S, np.eye(4))])
    edge = message.transforms[0]
    if kind == "nan":
        edge.transform.translation.x = np.nan
    elif kind == "zero quaternion":
        edge.transform.rotation.w = 0.0
    elif kind == "in itself":
        edge.child_frame_id = "odom"
    else:
        edge.header.frame_id = ""
    return message


@pytest.mark.parametrize("kind", ["nan", "zero quaternion", "in itself", "no name"])
def test_a_broken_transform_costs_only_itself(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        for second in (0, 2):
            bag.write("/tf", messages.tf_message([("odom", "base", second * S, np.eye(4))]), second * S)
            bag.write("/tf", broken(kind), second * S)
    with caplog.at_level(logging.WARNING), open_bag(tmp_path / "bag") as opened:
        tree = opened.transforms()
    np.testing.assert_allclose(tree.lookup("odom", "base", S), np.eye(4))
    (line,) = tree.skipped
    assert line.startswith("2 transforms '") and line in caplog.text
