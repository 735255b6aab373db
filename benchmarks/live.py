"""A bag played live into lidar_node and map_node in processes of their own: latency by stage, drops, memory, answers.

    python benchmarks/live.py BAG [--seconds 70] [--ask car --ask tree] [--out out/live] [name:=value ...]

``name:=value`` are the arguments of `ov3d up lidar`. The bag is looped. Memory is the resident set of each node every
two seconds; the first ten seconds are warm-up. The overlay draws the labels of a scan over the images that belong to
it, and the boxes of the answers are written to answers.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from ov3d_perception.ros.client import ask, describe, set_vocabulary
from ov3d_perception.ros.listener import Listener
from ov3d_perception.ros.process import private_session
from ov3d_perception.ros.systems import parse_arguments
from ov3d_perception.ros.up import NodeProcesses

WARM_UP_S, PERIOD_S = 10.0, 2.0


def resident_mb(pid: int) -> float:
    """Resident set of a process in MB, 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def watch(player: subprocess.Popen, pids: dict[str, int]) -> dict[str, list[float]]:
    """Memory of the nodes while the player runs."""
    memory: dict[str, list[float]] = {name: [] for name in pids}
    while player.poll() is None:
        time.sleep(PERIOD_S)
        for name, pid in pids.items():
            memory[name].append(resident_mb(pid))
    return memory


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bag", type=Path)
    parser.add_argument("--seconds", type=float, default=70.0)
    parser.add_argument("--ask", action="append", default=[])
    parser.add_argument("--switch", action="append", default=[], help="a word to switch to at the end, timed")
    parser.add_argument("--out", type=Path, default=Path("out/live"))
    parser.add_argument("arguments", nargs="*")
    given = parser.parse_intermixed_args()
    given.out.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    with private_session(), NodeProcesses("lidar", parse_arguments(given.arguments), log=lines.append) as nodes:
        listener = Listener()
        if not listener.wait_for(lambda: bool(listener.classes), 120):
            raise SystemExit("\n".join(["lidar_node did not become active", *lines]))
        command = [sys.executable, "-m", "ov3d_perception.cli", "bag", "play", str(given.bag), "--loop"]
        topic = parse_arguments(given.arguments).get("points", "/points")
        player = subprocess.Popen([*command, "--seconds", str(given.seconds), "--wait-for", topic])
        memory = watch(player, nodes.pids)
        time.sleep(2 * PERIOD_S)
        report = summarise(memory, listener)
        answers = [describe(ask([word], limit=10, timeout=30)) for word in given.ask]
        if given.switch:
            reply = set_vocabulary(given.switch)
            took = reply.duration.sec * 1e3 + reply.duration.nanosec / 1e6
            answers.append(f"set_vocabulary: {reply.message} in {took:.2f} ms")
        listener.close()
    scans = [scan for scan in listener.scans if len(scan.label)]
    np.savez(
        given.out / "scan.npz",
        stamp=scans[-1].stamp,
        xyz=scans[-1].xyz,
        label=scans[-1].label,
        classes=listener.classes,
    )
    (given.out / "report.json").write_text(json.dumps(report, indent=2))
    (given.out / "answers.txt").write_text("\n".join(answers))
    (given.out / "nodes.log").write_text("\n".join(lines))
    print(json.dumps(report, indent=2), *answers, sep="\n")


def summarise(memory: dict[str, list[float]], listener: Listener) -> dict[str, object]:
    """Memory after the warm-up, and the last diagnostics of each node."""
    skip = int(WARM_UP_S / PERIOD_S)
    rows = {
        name: {"after warm-up [MB]": values[skip], "end [MB]": values[-1], "most [MB]": max(values)}
        for name, values in memory.items()
        if len(values) > skip
    }
    return {"scans labelled": len(listener.scans), "memory": rows, "diagnostics": listener.status}


if __name__ == "__main__":
    main()
