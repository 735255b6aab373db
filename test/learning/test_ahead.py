"""Streets are simulated beside, and the process that does it ends with the one that began it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from ov3d_perception.learning import ahead
from ov3d_perception.recipes.specs import SourceSpec

BESIDE = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core")


def street(folder: Path, frames: int) -> SourceSpec:
    options = {"seeds": [2950], "frames": frames, "stride": 10, "cameras": False}
    return SourceSpec("simulated", str(folder), options)


def wait(condition: object, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.1)
    return False


@BESIDE
def test_frames_are_read_beside_the_block_and_what_cannot_be_read_is_left(tmp_path: Path) -> None:
    missing = SourceSpec("semantickitti", str(tmp_path / "nothing"), {"sequences": ["00"]})
    with ahead.reading([(missing, [0]), (street(tmp_path, 3), [1, 2])]):
        assert wait(lambda: len(list(tmp_path.rglob("*.npz"))) == 2, 120)
    assert sorted(path.name for path in tmp_path.rglob("*.npz")) == ["001.npz", "002.npz"]


@BESIDE
def test_it_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import json, sys, time\n"
        "from ov3d_perception.learning import ahead\n"
        "from ov3d_perception.recipes.specs import SourceSpec\n"
        "with ahead.reading([(SourceSpec(**json.loads(sys.argv[1])), range(60))]):\n"
        "    print('begun', flush=True); time.sleep(300)"
    )
    spec = json.dumps(asdict(street(tmp_path, 60)))
    with subprocess.Popen([sys.executable, "-c", code, spec], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "begun\n"
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        begun = wait(lambda: list(tmp_path.rglob("*.npz")), 120)
        parent.send_signal(signal.SIGKILL)
    assert begun and children
    assert wait(lambda: not any(Path(f"/proc/{child}").is_dir() for child in children), 10)
