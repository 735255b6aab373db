"""What another network costs the live one: scans lost and longest gap while networks come and go, and without that.

    python benchmarks/swap.py BAG CHECKPOINT [CHECKPOINT ...] [--seconds 60] [--swaps 6] [--command]

Plays the bag in a loop into ``ov3d up lidar`` with a listener on the labelled clouds. After a warm-up, ``--seconds``
without a swap, then as long with ``--swaps`` of them: each of the checkpoints in turn, and the shipped network again.
A swap is a call of ~/load_checkpoint, with ``--command`` by `ov3d checkpoint load`, whose own start takes
processor time, too. Scans sent are counted by what lidar_node received. A gap is the time between two labelled clouds,
as the listener sees them; where the bag begins anew, its stamps have a gap of their own. ``--set`` gives the arguments
of `ov3d up lidar`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from ov3d_perception.models import shipped_checkpoint
from ov3d_perception.ros.contexts import private_session
from ov3d_perception.ros.messages import stamp_to_ns
from ov3d_perception.ros.tools.client import load_checkpoint
from ov3d_perception.ros.tools.listener import Listener
from ov3d_perception.ros.tools.systems import parse_arguments
from ov3d_perception.ros.tools.up import NodeProcesses

WARM_UP_S, SETTLE_S = 8.0, 2.5  # diagnostics come once a second
STATUS = "lidar_node: segmentation"


class Watched(Listener):
    """Notes of each labelled cloud its stamp and when it came, both in seconds, and forgets the cloud."""

    def __init__(self) -> None:
        self.came: list[tuple[float, float]] = []
        super().__init__()

    def _on_scan(self, message: Any) -> None:
        self.came.append((stamp_to_ns(message.header.stamp) * 1e-9, time.perf_counter()))

    def counters(self) -> dict[str, int]:
        """lidar_node's, as of its last diagnostics."""
        values = self.status.get(STATUS, {})
        return {name: int(values.get(name, 0)) for name in ("received", "processed", "dropped", "refused")}


def swap_to(checkpoint: Path, by_command: bool) -> str:
    """Have it loaded; how long that took."""
    start = time.perf_counter()
    if by_command:
        command = [sys.executable, "-m", "ov3d_perception.cli", "checkpoint", "load", str(checkpoint)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    else:
        answer = load_checkpoint(str(checkpoint))
        if not answer.success:
            raise SystemExit(answer.message)
    return f"{time.perf_counter() - start:.2f}"


def phase(listener: Watched, seconds: float, checkpoints: list[Path], by_command: bool) -> str:
    """What came, what was lost and the longest gap in ``seconds``, with the checkpoints loaded one after the other."""
    before, first, start = listener.counters(), len(listener.came), time.perf_counter()
    took, every = [], seconds / (len(checkpoints) + 1)
    for number, checkpoint in enumerate(checkpoints, 1):
        time.sleep(max(0.0, start + number * every - time.perf_counter()))
        took.append(swap_to(checkpoint, by_command))
    time.sleep(max(0.0, start + seconds - time.perf_counter()))
    time.sleep(SETTLE_S)
    counted = {name: value - before[name] for name, value in listener.counters().items()}
    stamps, gaps = np.diff(np.array(listener.came[max(first - 1, 0) :]), axis=0).T
    lost = np.maximum(np.rint(stamps / np.median(stamps)) - 1, 0)
    late = np.sort(gaps - stamps)[:-6:-1]
    lasted = f" (of {', '.join(took)} s)" if took else ""
    return (
        f"{len(took)} swaps{lasted}: {counted}; scans without labels in a row: "
        f"{np.sort(lost[lost > 0])[::-1].astype(int).tolist()}; gaps {np.sort(gaps)[:-6:-1].round(3)} s, beyond the "
        f"stamps' {late.round(3)} s"
    )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bag", type=Path)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--swaps", type=int, default=6)
    parser.add_argument("--command", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="name:=value")
    given = parser.parse_args()
    arguments, lines = parse_arguments(given.set), list[str]()
    networks = [*given.checkpoints, shipped_checkpoint()]
    with private_session(), NodeProcesses("lidar", arguments, log=lines.append):
        listener = Watched()
        if not listener.wait_for(lambda: bool(listener.classes), 120):
            raise SystemExit("\n".join(["lidar_node did not become active", *lines]))
        play = [sys.executable, "-m", "ov3d_perception.cli", "bag", "play", str(given.bag), "--loop"]
        player = subprocess.Popen([*play, "--wait-for", arguments.get("points", "/points")], stdout=subprocess.DEVNULL)
        try:
            listener.wait_for(lambda: bool(listener.came), 60)
            time.sleep(WARM_UP_S)
            print(phase(listener, given.seconds, [], given.command), flush=True)
            order = [networks[number % len(networks)] for number in range(given.swaps)]
            print(phase(listener, given.seconds, order, given.command), flush=True)
        finally:
            player.terminate()
            player.wait()
        listener.close()


if __name__ == "__main__":
    main()
