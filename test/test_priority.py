"""Programs beside a robot give way to it, whole sessions where Linux shares the processor by session."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

_AUTOGROUP, _SWITCH = Path("/proc/self/autogroup"), Path("/proc/sys/kernel/sched_autogroup_enabled")
_TELL = """
import os, sys
from pathlib import Path
from ov3d_perception.priority import give_way, work_behind
{how}(5)
group = Path("/proc/self/autogroup")
print(os.nice(0), os.getsid(0) == os.getpid(), group.read_text().strip() if group.is_file() else "", flush=True)
{then}
"""
by_session = pytest.mark.skipif(
    not (_AUTOGROUP.is_file() and _SWITCH.is_file() and _SWITCH.read_text().strip() == "1"),
    reason="a kernel without autogroup",
)


def script(how: str, then: str = "") -> list[str]:
    return [sys.executable, "-c", _TELL.format(how=how, then=then)]


@by_session
@pytest.mark.parametrize("own_session", [True, False])
def test_a_process_gives_way_and_its_session_only_where_it_is_alone_in_it(own_session: bool) -> None:
    """The file is "/autogroup-7 nice 0", or empty for a session that began before autogroup was switched on."""
    before = _AUTOGROUP.read_text().split()
    command = script("give_way")
    done = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=own_session)
    nice, _, *group = done.stdout.split()
    assert nice == "5"
    if own_session:
        assert not group or group[-1] == "5"
    else:
        assert group == before


@by_session
@pytest.mark.parametrize("own_session", [True, False])
def test_a_program_of_a_terminal_goes_on_in_a_session_of_its_own(own_session: bool) -> None:
    before = _AUTOGROUP.read_text()
    command = script("work_behind", "sys.exit(3)")
    done = subprocess.run(command, capture_output=True, text=True, start_new_session=own_session)
    nice, alone, *group = done.stdout.split()
    assert (done.returncode, nice, alone) == (3, "5", "True"), "once, and its exit status"
    assert not group or group[-1] == "5"
    assert _AUTOGROUP.read_text() == before, "the terminal's own session stays as it was"


@by_session
def test_signals_reach_the_program_and_it_does_not_outlive_who_waits_for_it() -> None:
    wait = "import time; print(os.getpid(), flush=True); time.sleep(60)"
    with subprocess.Popen(script("work_behind", wait), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        child = int(process.stdout.readline())
        assert child != process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 128 + signal.SIGTERM, "as a shell says it"
    with subprocess.Popen(script("work_behind", wait), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        child = int(process.stdout.readline())
        process.kill()
        assert process.wait(10) == -signal.SIGKILL
    end = time.monotonic() + 10
    while _at_work(child) and time.monotonic() < end:
        time.sleep(0.01)
    assert not _at_work(child)


def _at_work(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_without_a_wish_nothing_happens() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TELL.replace("(5)", "(0)").format(how="work_behind", then="")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[:2] == [str(os.nice(0)), "False"]
