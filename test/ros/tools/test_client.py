"""``ov3d query`` and its like while nobody answers: Ctrl-C ends them, and is no error."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from bag_process import end
from ros_harness import Probe

QUERY = "import sys; from ov3d_perception.cli import main; sys.argv = ['ov3d', 'query', 'car']; main()"


@pytest.mark.live
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_question_without_a_traceback(
    start: Callable[..., subprocess.Popen], probe: Probe, tmp_path: Path, number: int
) -> None:
    process = start(QUERY, tmp_path)
    probe.wait_for(lambda: "ov3d_client" in probe.node.get_node_names(), "the question's node")
    said = end(process, number)
    assert "Traceback" not in said and "No node offers" not in said
    assert process.returncode in (-number, 128 + number)
