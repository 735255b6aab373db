"""From the start command to the first labelled cloud: seconds and processor time, beside another work tree.

    python benchmarks/startup.py BAG [--other ../older_tree] [--rounds 5] [--show]

Runs ``ov3d up lidar`` of each tree in turn while the bag plays in a loop (the demo's, say), and prints the medians:
seconds until the first labelled cloud; processor seconds until then of the command and both nodes together; and each
node's resident memory there. The first round of each tree fills its caches and is not counted. --show prints when each
line of the nodes' logs came, in the last round.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from ov3d_perception.ros.contexts import private_session
from ov3d_perception.ros.tools.listener import Listener

_TICK = os.sysconf("SC_CLK_TCK")
HERE = Path(__file__).parents[1]


class Start(NamedTuple):
    """seconds, cpu_s: until the first labelled cloud; memory_mb: resident set by node."""

    seconds: float
    cpu_s: float
    memory_mb: dict[str, float]


class Process(NamedTuple):
    """What /proc says of a process."""

    pid: int
    parent: int
    cpu_s: float
    resident_mb: float
    command: str


def processes() -> list[Process]:
    """Those that run now."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:  # it has ended
            continue
        cpu_s = sum(int(fields[k]) for k in (11, 12, 13, 14)) / _TICK
        resident = int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        found.append(Process(int(folder.name), int(fields[1]), cpu_s, resident, command))
    return found


def family(pid: int) -> list[Process]:
    """A process, its children and theirs."""
    everyone, members = processes(), {pid}
    for _ in range(4):
        members |= {process.pid for process in everyone if process.parent in members}
    return [process for process in everyone if process.pid in members]


def start(tree: Path, show: bool) -> Start:
    """One start of the tree's nodes, ended as soon as a labelled cloud has come."""
    listener = Listener()
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "ov3d_perception.cli", "up", "lidar"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def log() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if show:
                print(f"  {time.perf_counter() - began:6.2f} s  {line.rstrip()[:150]}")

    reader = threading.Thread(target=log, daemon=True)
    reader.start()
    came = listener.wait_for(lambda: bool(listener.scans), 120.0)
    seconds = time.perf_counter() - began
    members = family(process.pid)
    process.send_signal(signal.SIGINT)
    process.wait()
    reader.join()
    listener.close()
    if not came:
        raise SystemExit(f"{tree}: no labelled cloud in two minutes; --show prints the nodes' logs")
    nodes = {name: re.compile(rf"ov3d_perception\.ros\.(start )?{name}") for name in ("lidar_node", "map_node")}
    memory = {name: p.resident_mb for p in members for name, said in nodes.items() if said.search(p.command)}
    if show:
        print(*(f"  {p.cpu_s:.2f} s of processor: {p.command[:100]}" for p in members), sep="\n")
    return Start(seconds, sum(p.cpu_s for p in members), memory)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bag", type=Path)
    parser.add_argument("--other", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--show", action="store_true")
    given = parser.parse_args()
    trees = [HERE, *([given.other.resolve()] if given.other else [])]
    starts: dict[Path, list[Start]] = {tree: [] for tree in trees}
    with private_session():
        play = [sys.executable, "-m", "ov3d_perception.cli", "bag", "play", str(given.bag), "--loop"]
        player = subprocess.Popen(play, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for number in range(given.rounds + 1):
                for tree in trees:
                    made = start(tree, given.show and number == given.rounds)
                    if number:
                        starts[tree].append(made)
        finally:
            player.terminate()
            player.wait()
    medians = {
        tree: [statistics.median(values) for values in list(zip(*made, strict=True))[:2]]
        for tree, made in starts.items()
    }
    for tree, (seconds, cpu_s) in medians.items():
        memory = starts[tree][-1].memory_mb
        sizes = ", ".join(f"{name} {size:.0f} MB" for name, size in sorted(memory.items()))
        print(f"{tree}: {seconds:.2f} s, {cpu_s:.2f} s of processor; {sizes}")
    if given.other:
        ours, theirs = medians.values()
        print(f"ratio: {ours[0] / theirs[0]:.2f} of the seconds, {ours[1] / theirs[1]:.2f} of the processor time")


if __name__ == "__main__":
    main()
