"""Retrieval from the semantic map on unseen simulated drives: ``python benchmarks/retrieval.py [--worlds 2000 2001]``.

The network shipped labels nothing here: its features go into a map as map_node's do (no ROS), and the map is asked for
each class of objects by its name and by synonyms that are no words of the vocabulary, and for things that are not
there. A true object is an instance of the simulator with at least 20 voxels that two scans or more have hit and the map
still holds; its box is drawn around them as the map draws a match's. A match is right if its box and that of an object
not yet found overlap by more than 0.25 (0.5) of their union, in three dimensions. AP: mean precision at the right
matches, best first, over all objects; objects not found count as zero. Voxels: precision and recall of the matches'
voxels against the true class. An absent word is answered falsely if it has any match.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from ov3d_perception.geometry.boxes import Box
from ov3d_perception.geometry.poses import transform
from ov3d_perception.geometry.voxels import voxel_keys
from ov3d_perception.inference import Segmenter
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.language.vocabulary import TextSource, load_text_source
from ov3d_perception.mapping.clusters import box_around
from ov3d_perception.mapping.query import Match, TextQuery, ask
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.models import shipped_bank, shipped_checkpoint
from ov3d_perception.sim.classes import NAMES
from ov3d_perception.sim.drive import simulate

SYNONYMS = {
    "barrier": ["barrier", "barricade", "road barrier", "jersey barrier"],
    "bicycle": ["bicycle", "bike", "cycle"],
    "bus": ["bus", "city bus", "coach"],
    "car": ["car", "automobile", "sedan"],
    "construction_vehicle": ["excavator", "construction vehicle", "bulldozer"],
    "motorcycle": ["motorcycle", "motorbike", "scooter"],
    "pedestrian": ["person", "human", "walker"],
    "traffic_cone": ["traffic cone", "cone", "safety cone"],
    "trailer": ["trailer", "semi trailer", "cargo container"],
    "truck": ["truck", "lorry", "delivery truck"],
}
# fmt: off
ABSENT = (
    "giraffe", "elephant", "zebra", "penguin", "whale", "shark", "piano", "violin", "submarine", "helicopter",
    "airplane", "sailboat", "pizza", "banana", "sofa", "refrigerator", "toaster", "bathtub", "pillow",
    "telescope", "volcano", "castle", "pyramid", "iceberg", "dinosaur", "octopus", "camel", "kangaroo",
    "microwave", "keyboard", "chandelier", "parachute", "guitar", "cathedral", "waterfall",
)
# fmt: on
OVERLAPS = (0.25, 0.5)


@dataclass
class World:
    """A map, and the true class and objects of its voxels."""

    semantic_map: SemanticMap
    kind: dict[int, int]
    boxes: dict[int, list[Box]]


@dataclass
class Tally:
    """What came of asking a word in all worlds."""

    objects: int = 0
    scores: list[float] = field(default_factory=list)
    right: dict[float, list[bool]] = field(default_factory=lambda: {overlap: [] for overlap in OVERLAPS})
    voxels: np.ndarray = field(default_factory=lambda: np.zeros(3, np.int64))  # right, answered, true

    def row(self, name: str, word: str) -> str:
        """Of the table."""
        cells = [name, word, str(self.objects), str(len(self.scores))]
        for overlap in OVERLAPS:
            right = np.array(self.right[overlap], bool)
            precision = f"{right.mean():.2f}" if len(right) else "-"
            recall = f"{right.sum() / self.objects:.2f}" if self.objects else "-"
            cells += [precision, recall, f"{self.average_precision(overlap):.2f}"]
        hit, answered, true = self.voxels.tolist()
        return f"| {' | '.join([*cells, f'{hit / max(answered, 1):.2f}', f'{hit / max(true, 1):.2f}'])} |"

    def average_precision(self, overlap: float) -> float:
        """0 where there is nothing."""
        right = np.array(self.right[overlap], bool)[np.argsort(-np.array(self.scores), kind="stable")]
        precision = np.cumsum(right) / np.arange(1, len(right) + 1)
        return float(precision[right].sum() / max(self.objects, 1))


def drive(seed: int, seconds: float, stride: int, segmenter: Segmenter, voxel_size: float) -> World:
    """Map a drive as map_node would, free space cleared."""
    semantic_map = SemanticMap(voxel_size, segmenter.basis, segmenter.identity, segmenter.info.logit_scale)
    truth: dict[int, tuple[int, int]] = {}
    for frame in simulate(seed, seconds, cameras=False, stride=stride):
        voxels = segmenter.features(frame.scan.xyz, frame.scan.intensity)
        T = frame.T_world_lidar
        semantic_map.integrate(
            transform(T, voxels.centres).astype(np.float32), voxels.features, frame.stamp, T[:3, 3].astype(np.float64)
        )
        keys = voxel_keys(transform(T, voxels.centres)[voxels.point_to_voxel], voxel_size)
        truth |= dict(
            zip(keys.tolist(), zip(frame.labels.tolist(), frame.instances.tolist(), strict=True), strict=True)
        )
    chunks = list(semantic_map.chunks())
    keys = np.concatenate([chunk.key[chunk.weight >= TextQuery.min_observations] for chunk in chunks])
    return World(semantic_map, {key: truth[key][0] for key in keys.tolist()}, _objects(semantic_map, keys, truth))


def _objects(semantic_map: SemanticMap, keys: np.ndarray, truth: Mapping[int, tuple[int, int]]) -> dict[int, list[Box]]:
    members: dict[tuple[int, int], list[int]] = {}
    for key in keys.tolist():
        members.setdefault(truth[key], []).append(key)
    boxes: dict[int, list[Box]] = {kind: [] for kind in range(len(NAMES))}
    for (kind, instance), own in members.items():
        if instance > 0 and len(own) >= TextQuery.min_voxels:
            boxes[kind].append(box_around(semantic_map.centres(np.array(own)), semantic_map.voxel_size))
    return boxes


def overlap_of(one: Box, other: Box) -> float:
    """Volume of the intersection over that of the union."""
    rectangles = [
        (
            (float(box.centre[0] - one.centre[0]), float(box.centre[1] - one.centre[1])),
            tuple(box.size[:2].tolist()),
            float(np.degrees(box.yaw)),
        )
        for box in (one, other)
    ]
    kind, corners = cv2.rotatedRectangleIntersection(*rectangles)
    low = max(box.centre[2] - box.size[2] / 2 for box in (one, other))
    high = min(box.centre[2] + box.size[2] / 2 for box in (one, other))
    if kind == cv2.INTERSECT_NONE or corners is None or high <= low:
        return 0.0
    common = float(cv2.contourArea(cv2.convexHull(corners))) * (high - low)
    return common / (float(np.prod(one.size)) + float(np.prod(other.size)) - common)


def count_by_code(world: World, kind: int, matches: Sequence[Match], into: Tally) -> None:
    """Compare the matches, best first, with the objects of a class."""
    boxes = world.boxes[kind]
    overlaps = [np.array([overlap_of(match.box, box) for box in boxes]) for match in matches]
    into.objects += len(boxes)
    into.scores += [match.score for match in matches]
    for least in OVERLAPS:
        free = np.ones(len(boxes), bool)
        for row in overlaps:
            best = int(np.argmax(np.where(free, row, -1))) if free.any() else -1
            found = best >= 0 and row[best] > least
            into.right[least].append(found)
            if found:
                free[best] = False
    answered = {key for match in matches for key in match.keys.tolist()}
    true = {key for key, value in world.kind.items() if value == kind}
    into.voxels += [len(answered & true), len(answered), len(true)]


def evaluate(worlds: Sequence[World], text: TextSource, query: Mapping[str, float]) -> list[str]:
    """Lines of the report, of one way to ask."""
    background = {name: list(words) for name, words in LabelSet.load("street").prompts.items()}
    tallies = {(name, word): Tally() for name, words in SYNONYMS.items() for word in words}
    false = asked = 0
    for world in worlds:
        for (name, word), into in tallies.items():
            matches = ask(world.semantic_map, TextQuery([word], background=background, **query), text)
            tally(world, NAMES.index(name), matches, into)
        for word in ABSENT:
            asked += 1
            false += bool(ask(world.semantic_map, TextQuery([word], background=background, **query), text))
    lines = [
        f"\n{', '.join(f'{name} {value}' for name, value in query.items())}\n",
        "| class | word | objects | matches | P@.25 | R@.25 | AP@.25 | P@.5 | R@.5 | AP@.5 | voxels P | voxels R |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(into.row(*names) for names, into in tallies.items()),
    ]
    for label, wanted in (("names", True), ("synonyms", False)):
        own = [into for (name, word), into in tallies.items() if (word == SYNONYMS[name][0]) is wanted and into.objects]
        means = ", ".join(f"{np.mean([each.average_precision(o) for each in own]):.3f} at {o}" for o in OVERLAPS)
        lines.append(f"\nMean AP over the words that have objects, {label}: {means}.")
    lines.append(f"\nAbsent words: {false} of {asked} answered falsely ({100 * false / max(asked, 1):.1f} %).")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Drive, ask, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, nargs="+", default=[2000, 2001, 2002, 2003])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--stride", type=int, default=2, help="of the scans at 10 Hz, map every so many")
    parser.add_argument("--checkpoint", default=str(shipped_checkpoint()))
    parser.add_argument("--text", default=str(shipped_bank()))
    parser.add_argument("--voxel-size", type=float, default=0.2)
    parser.add_argument("--threshold", type=float, nargs="+", default=[TextQuery.threshold], help="a table for each")
    parser.add_argument("--synonym-cosine", type=float, default=TextQuery.synonym_cosine)
    parser.add_argument("--out", type=Path, help="Markdown file to write the table to")
    options = parser.parse_args(arguments)
    segmenter = Segmenter.load(options.checkpoint, device="cpu")
    worlds = [drive(seed, options.seconds, options.stride, segmenter, options.voxel_size) for seed in options.worlds]
    text = load_text_source(options.text)
    queries = [{"threshold": each, "synonym_cosine": options.synonym_cosine} for each in options.threshold]
    command = " ".join(["python benchmarks/retrieval.py", *(sys.argv[1:] if arguments is None else arguments)])
    report = "\n".join([f"`{command}`", *(line for query in queries for line in evaluate(worlds, text, query))])
    print(report)
    if options.out:
        options.out.write_text(report + "\n")


if __name__ == "__main__":
    main()
