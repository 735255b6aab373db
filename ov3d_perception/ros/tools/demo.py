"""The whole story on one machine: a simulated drive, the real nodes, questions in words, scores, pictures."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from ov3d_msgs.msg import ObjectMatch
from ov3d_msgs.srv import ApproachPose
from ov3d_perception.datasets.registry import open_dataset
from ov3d_perception.demo import pictures, recording
from ov3d_perception.demo.score import LabelledScan, look_into, score_labels
from ov3d_perception.demo.summary import Answer, Summary
from ov3d_perception.demo.truth import TrueScan, read_truth
from ov3d_perception.errors import Ov3dError
from ov3d_perception.evaluation.checkpoint import evaluate_checkpoint
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.models import shipped_checkpoint
from ov3d_perception.ros.contexts import private_session
from ov3d_perception.ros.messages import message_to_box, message_to_grid, message_to_pose
from ov3d_perception.ros.tools.client import approach, ask
from ov3d_perception.ros.tools.listener import Listener
from ov3d_perception.ros.tools.up import NodeProcesses
from ov3d_perception.sim.bag import write_drive
from ov3d_perception.sim.drive import simulate
from ov3d_perception.types import Frame

COSTS = {"sidewalk": 40, "grass": 70, "car": 100, "pedestrian": 100}
GOAL = "car"
QUESTIONS = ("car", "tree", "building", "excavator", "pedestrian", "giraffe")
LABELSET = "street"
IMAGE_EVERY = 5
QUIET_S = 4.0
START_S = 90.0


@dataclass
class Live:
    """What came out of the running system."""

    listener: Listener
    answers: dict[str, tuple[str, list[ObjectMatch]]]
    approach: ApproachPose.Response


def run_demo(out: Path, seed: int, seconds: float, rate: float = 1.0) -> int:
    """Everything into ``out``; returns the exit status: 0 if all of it ran and scans were labelled.

    rate: of the live drive; below 1, a slow machine labels more of the scans.
    """
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    bag = out / "drive"
    with _step(f"Simulating {seconds:.0f} s of street {seed} (a world that no network was trained on)"):
        write_drive(bag, simulate(seed, seconds, image_every=IMAGE_EVERY), overwrite=True)
    with _step("Driving it live: lidar_node, map_node and the player are processes of their own"):
        live = _run_nodes(bag, rate, out / "nodes.log")
    if not live.listener.scans or live.listener.map_cloud is None:
        raise Ov3dError("The nodes published no labelled scan or no map", f"Read {out / 'nodes.log'}")
    with _step("Scoring"):
        truth = read_truth(bag)
        summary = _summarise(live, truth, bag, seed)
    with _step("Drawing"):
        _draw(out, live, truth, bag, summary)
    summary.write(out / "summary.json")
    (out / "summary.txt").write_text(summary.to_text())
    print(summary.to_text())
    print(f"\nPictures, bag, recording: {out}/ ({time.monotonic() - started:.0f} s)")
    return 0


def _run_nodes(bag: Path, rate: float, log: Path) -> Live:
    """Nodes up, bag played, questions asked, nodes down."""
    settings = {"costs": str([f"{word}: {cost}" for word, cost in COSTS.items()])}
    with (
        private_session(),
        log.open("w") as lines,
        NodeProcesses("lidar", settings, log=_to_file(lines)) as nodes,
    ):
        listener = Listener()
        if not listener.wait_for(lambda: bool(listener.classes) and "map_node: map" in listener.status, START_S):
            raise Ov3dError(f"The nodes did not become active ({nodes.ended() or 'they still run'})", f"Read {log}")
        player = [sys.executable, "-m", "ov3d_perception.cli", "bag", "play", str(bag), "--wait-for", "/points"]
        subprocess.run([*player, "--rate", str(rate)], check=True, stdout=lines, stderr=lines)
        _wait_until_mapped(listener)
        answers = {word: _ask(word) for word in QUESTIONS}
        goal = approach([GOAL], timeout=30.0)
        listener.wait_for(lambda: listener.map_cloud is not None and listener.mask is not None, 10.0)
        listener.close()
    return Live(listener, answers, goal)


def _wait_until_mapped(listener: Listener) -> None:
    """Until labelled scans have come and for a while neither one more nor one more in the map."""
    listener.wait_for(lambda: bool(listener.scans), START_S)
    seen, now = None, _progress(listener)
    while seen != now:
        time.sleep(QUIET_S)
        seen, now = now, _progress(listener)


def _progress(listener: Listener) -> tuple[int, str]:
    """Scans labelled; and in the map, as it says itself."""
    return len(listener.scans), listener.status["map_node: map"].get("integrated", "")


def _ask(word: str) -> tuple[str, list[ObjectMatch]]:
    answer = ask([word], timeout=30.0)
    return answer.message, list(answer.matches)


def _summarise(live: Live, truth: dict[int, TrueScan], bag: Path, seed: int) -> Summary:
    names = LabelSet.load(LABELSET).names
    offline = evaluate_checkpoint(
        shipped_checkpoint(), "bag", str(bag), {"labelset": LABELSET, "every": IMAGE_EVERY}, labelset=LABELSET
    )
    answers = []
    for word, (message, matches) in live.answers.items():
        boxes = [message_to_box(match) for match in matches]
        answers.append(Answer(word, message, tuple(boxes), tuple(look_into(boxes, truth, names))))
    about = {
        "world": f"simulated street, seed {seed}",
        "approach": live.approach.message,
        "scans": f"{len(live.listener.scans)} of {len(truth)} labelled live (newest first when the machine is slower)",
        "latency": _latency(live.listener.status.get("lidar_node: segmentation", {})),
    }
    return Summary(
        about, score_labels(live.listener.scans, truth, names), offline, tuple(answers), live.listener.status
    )


def _latency(status: Mapping[str, str]) -> str:
    """From lidar_node's diagnostics."""
    median, worst = (status.get(f"total{which} [ms]", "?") for which in ("", " worst"))
    return f"{median} ms from a scan's arrival to its labels (median of the last 50, the worst {worst} ms)"


def _draw(out: Path, live: Live, truth: dict[int, TrueScan], bag: Path, summary: Summary) -> None:
    names = LabelSet.load(LABELSET).names
    scans = [s for s in live.listener.scans if s.stamp in truth and len(truth[s.stamp].labels) == len(s.label)]
    frames = [frame for frame in open_dataset("bag", bag, labelset=LABELSET, every=IMAGE_EVERY)]
    shown = _with_images(scans, frames)
    score = f"all points of {len(scans)} scans: mIoU {summary.live.miou:.2f}"
    pictures.draw_scan(out / "scan.png", shown, truth[shown.stamp], names, score)
    pictures.draw_overlay(out / "overlay.png", pictures.nearest_frame(frames, shown.stamp), shown.label, names)
    assert live.listener.map_cloud is not None
    cloud = live.listener.map_cloud
    xyz, labels = np.stack([cloud[axis] for axis in "xyz"], 1), cloud["label"].astype(np.int32)
    boxes = [
        box for answer in summary.answers if answer.word in ("car", "excavator", "pedestrian") for box in answer.boxes
    ]
    path = [truth[stamp].T_map_lidar for stamp in sorted(truth)]
    words = ", ".join(f"{answer.word}: {len(answer.boxes)}" for answer in summary.answers)
    pictures.draw_map(out / "map.png", xyz, labels, names, boxes, path, words)
    _draw_navigation(out, live, (xyz, labels), path)
    recording.record(out / "demo.rrd", scans, truth, frames, (xyz, labels), boxes, names)


def _draw_navigation(
    out: Path, live: Live, map_cloud: tuple[np.ndarray, np.ndarray], path: Sequence[np.ndarray]
) -> None:
    """What Nav2 is told: the mask, and where to stand in front of the goal. What there is none of is not drawn."""
    names = LabelSet.load(LABELSET).names
    if (mask := live.listener.mask) is not None:
        layout, values = message_to_grid(mask)
        pictures.draw_mask(out / "mask.png", layout, values, path, COSTS)
    if live.approach.status == ApproachPose.Response.OK:
        pose, box = message_to_pose(live.approach.pose.pose), message_to_box(live.approach.match)
        pictures.draw_approach(out / "approach.png", *map_cloud, names, pose, box, live.approach.message)


def _with_images(scans: Sequence[LabelledScan], frames: Sequence[Frame]) -> LabelledScan:
    """The labelled scan nearest to the middle of the drive that also has images."""
    stamps = [frame.sweeps[0].scan.stamp for frame in frames]
    both = [scan for scan in scans if scan.stamp in stamps] or list(scans)
    return both[len(both) // 2]


def _to_file(lines: TextIO) -> Callable[[str], None]:
    def write(line: str) -> None:
        lines.write(line + "\n")
        lines.flush()

    return write


@contextlib.contextmanager
def _step(what: str) -> Iterator[None]:
    print(f"{what} ...", flush=True)
    began = time.monotonic()
    yield
    print(f"    {time.monotonic() - began:.1f} s", flush=True)
