"""A bag played live into lidar_node and map_node in processes of their own: latency by stage, drops, memory, answers.

    python benchmarks/live.py BAG [--seconds 70] [--ask car --ask tree] [--truth semantickitti_coarse9] [--out out/live]
                              [name:=value ...]

``name:=value`` are the arguments of `ov3d up lidar`. The bag is looped. Memory is the resident set of each node every
two seconds; the first ten seconds are warm-up. Written to --out: report.json, answers.txt, nodes.log, and, where the
bag has ground truth (--truth names the label set of its ids), what each answered box really holds, answers.png (the
true points from above with the boxes) and overlay.png (the labels of a published scan over its camera images).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ov3d_perception.datasets.registry import open_dataset
from ov3d_perception.demo.pictures import draw_overlay
from ov3d_perception.demo.score import look_into
from ov3d_perception.demo.truth import read_truth
from ov3d_perception.geometry.boxes import Box
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.ros.contexts import private_session
from ov3d_perception.ros.messages import message_to_box
from ov3d_perception.ros.tools.client import ask, describe, set_vocabulary
from ov3d_perception.ros.tools.listener import Listener
from ov3d_perception.ros.tools.systems import parse_arguments
from ov3d_perception.ros.tools.up import NodeProcesses
from ov3d_perception.viz.bev import Annotations, bird_eye, fit
from ov3d_perception.viz.canvas import save

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
    parser.add_argument("--truth", default=None, help="label set of the bag's /ground_truth/points")
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
        replies = {word: ask([word], limit=10, timeout=30) for word in given.ask}
        answers = [describe(reply) for reply in replies.values()]
        if given.switch:
            reply = set_vocabulary(given.switch)
            took = reply.duration.sec * 1e3 + reply.duration.nanosec / 1e6
            answers.append(f"set_vocabulary: {reply.message} in {took:.2f} ms")
        listener.close()
    if given.truth:
        boxes = [message_to_box(match) for reply in replies.values() for match in reply.matches]
        answers += judge(given.bag, given.truth, boxes, listener, given.out)
    (given.out / "report.json").write_text(json.dumps(report, indent=2))
    (given.out / "answers.txt").write_text("\n".join(answers))
    (given.out / "nodes.log").write_text("\n".join(lines))
    print(json.dumps(report, indent=2), *answers, sep="\n")


def judge(bag: Path, labelset: str, boxes: Sequence[Box], listener: Listener, out: Path) -> list[str]:
    """What really lies in each box, line by line; draws the boxes from above and a labelled scan over its images."""
    classes = LabelSet.load(labelset)
    truth = {stamp: replace(scan, labels=classes.map(scan.labels)) for stamp, scan in read_truth(bag).items()}
    xyz = np.concatenate([scan.xyz_map for scan in truth.values()])
    labels = np.concatenate([scan.labels for scan in truth.values()])
    seen = np.linalg.norm(xyz[:, :2] - xyz[:, :2].mean(0), axis=1) < 50
    notes = Annotations(boxes=boxes, title="Ground truth, and the boxes that the map answered with")
    picture = bird_eye(xyz[seen], labels[seen], classes.names, canvas=fit(xyz[seen]), point_size=0.2, notes=notes)
    save(out / "answers.png", picture)
    frames = [frame for frame in open_dataset("bag", bag, labelset=labelset) if frame.views]
    scans = (scan for scan in reversed(listener.scans) if list(listener.classes) == list(classes.names))
    for scan in scans:  # the loop gives later stamps: a frame is known by its points
        same = [f for f in frames if np.array_equal(f.sweeps[0].scan.xyz, scan.xyz)]
        if same:
            draw_overlay(out / "overlay.png", same[0], scan.label, classes.names)
            break
    found = look_into(boxes, truth, classes.names)
    return [f"{box.text}: {t.points} points, {t.share:.0%} {t.majority}" for box, t in zip(boxes, found, strict=True)]


def summarise(memory: dict[str, list[float]], listener: Listener) -> dict[str, object]:
    """Memory after the warm-up, and the last diagnostics of each node."""
    skip = int(WARM_UP_S / PERIOD_S)
    rows = {
        name: {
            "after warm-up [MB]": values[skip],
            "end [MB]": values[-1],
            "most [MB]": max(values),
            "every 2 s [MB]": [round(value) for value in values],
        }
        for name, values in memory.items()
        if len(values) > skip
    }
    return {"scans labelled": len(listener.scans), "memory": rows, "diagnostics": listener.status}


if __name__ == "__main__":
    main()
