"""Programs beside a running robot: its nodes go first.

Not for programs that talk to the nodes: `ov3d checkpoint load`, made to give way, lost two to five times as many scans.
The likely reason, not proved: the middleware's shared memory has locks that all its users share, and a program that
waits for the processor while it holds one makes the nodes wait.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

_AUTOGROUPS = Path("/proc/sys/kernel/sched_autogroup_enabled")
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def give_way(nice: int) -> None:
    """Raise this process's nice value.

    Where Linux shares the processor between sessions first (autogroup), the nice value counts inside a session only: a
    process that is a session of its own raises the session's value, too.
    """
    if nice <= 0:
        return
    os.nice(nice)
    if os.getsid(0) == os.getpid():
        with suppress(OSError):  # a kernel without autogroup
            Path("/proc/self/autogroup").write_text(str(nice))


def work_behind(nice: int) -> None:
    """Let the rest of this program give way to other sessions as well: those of the robot's nodes.

    A program that was started in a terminal is not alone in its session. It goes on in a child that has its own one;
    this process waits for it, hands over signals and ends with its exit status. Call it while there is one thread.
    """
    if nice <= 0:
        return
    if os.getsid(0) != os.getpid() and _AUTOGROUPS.is_file() and _AUTOGROUPS.read_text().strip() == "1":
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        if child := os.fork():
            _wait_for(child)
        os.setsid()
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended already
            os._exit(1)
    give_way(nice)


def _wait_for(child: int) -> None:
    def hand_over(number: int, frame: FrameType | None) -> None:
        os.kill(child, number)

    for number in _SIGNALS:
        signal.signal(number, hand_over)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(status if status >= 0 else 128 - status)
