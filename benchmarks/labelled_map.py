"""The map of a labelled recording, asked in words:

    python benchmarks/labelled_map.py semantickitti ROOT student.safetensors bank.npz --ask car=vehicle tree=vegetation

Each frame's key sweep goes through the network and into a map of its own sequence, as map_node does it (no ROS); then
the map is asked for the words of ``--ask WORD=CLASS ...`` (CLASS is one of the label set's) and for ``--absent`` words.
A voxel's true class is the one that most labelled points in it have, over all frames. Printed are, over all sequences,
precision and recall of the answers' voxels, how many matches hold mostly the class, and what absent words found.
``--out`` also gets a picture of each sequence: the answers' voxels above the true classes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ov3d_perception.datasets.registry import open_dataset
from ov3d_perception.geometry.poses import transform
from ov3d_perception.geometry.voxels import voxel_keys
from ov3d_perception.inference import Segmenter
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.language.vocabulary import TextSource, load_text_source
from ov3d_perception.mapping.query import TextQuery, ask
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.types import UNLABELLED, Frame
from ov3d_perception.viz.bev import Annotations, bird_eye, fit
from ov3d_perception.viz.canvas import save

VOXEL = 0.2


@dataclass
class Tally:
    """Of one word. voxels: right, answered (labelled ones), true; matches: right, all."""

    voxels: np.ndarray = field(default_factory=lambda: np.zeros(3, np.int64))
    matches: np.ndarray = field(default_factory=lambda: np.zeros(2, np.int64))

    def row(self, word: str, name: str) -> str:
        """Of the table."""
        right, answered, true = self.voxels.tolist()
        cells = f"{right / max(answered, 1):.2f} | {right / max(true, 1):.2f} | {true}"
        return f"| {word} | {name} | {cells} | {self.matches[0]} of {self.matches[1]} |"


def map_of(frames: Sequence[Frame], segmenter: Segmenter, classes: int) -> tuple[SemanticMap, dict[int, int]]:
    """The map, and the true class of its labelled voxels."""
    semantic_map = SemanticMap(VOXEL, segmenter.basis, segmenter.identity, segmenter.info.logit_scale)
    keys, labels = [], []
    for frame in frames:
        (scan, T), label = (frame.sweeps[0].scan, frame.sweeps[0].T_world_lidar), frame.labels
        assert label is not None
        voxels = segmenter.features(scan.xyz, scan.intensity)
        centres = transform(T, voxels.centres)
        semantic_map.integrate(centres.astype(np.float32), voxels.features, scan.stamp, T[:3, 3])
        known = label != UNLABELLED
        keys.append(voxel_keys(centres[voxels.point_to_voxel[known]], VOXEL))
        labels.append(label[known])
    distinct, place = np.unique(np.concatenate(keys), return_inverse=True)
    votes = np.bincount(place * classes + np.concatenate(labels), minlength=len(distinct) * classes)
    truth = dict(zip(distinct.tolist(), votes.reshape(-1, classes).argmax(1).tolist(), strict=True))
    chunks = list(semantic_map.chunks())
    kept = np.concatenate([chunk.key[chunk.weight >= TextQuery.min_observations] for chunk in chunks])
    return semantic_map, {key: truth[key] for key in kept.tolist() if key in truth}


def compare(
    semantic_map: SemanticMap, truth: Mapping[int, int], kind: int, query: TextQuery, text: TextSource, into: Tally
) -> np.ndarray:
    """Ask, count; returns the answers' keys."""
    matches = ask(semantic_map, query, text)
    keys = [match.keys for match in matches]
    for own in keys:
        known = [truth[key] for key in own.tolist() if key in truth]
        into.matches += [bool(known) and np.bincount(known).argmax() == kind, 1]
    answered = np.unique(np.concatenate([np.empty(0, np.int64), *keys]))
    known = [truth[key] for key in answered.tolist() if key in truth]
    into.voxels += [known.count(kind), len(known), list(truth.values()).count(kind)]
    return answered


def draw(
    path: Path,
    semantic_map: SemanticMap,
    truth: Mapping[int, int],
    found: tuple[np.ndarray, np.ndarray],
    names: LabelSet,
) -> None:
    """The answers' voxels in their words' classes above all true ones."""
    true = np.array(list(truth)), np.array(list(truth.values()), np.int32)
    around = fit(semantic_map.centres(true[0]), 1400, 700)
    panels = [
        bird_eye(
            semantic_map.centres(keys), labels, names.names, canvas=around, point_size=VOXEL, notes=Annotations(title=t)
        )
        for t, (keys, labels) in (("What was asked for, as the map answers", found), ("Ground truth", true))
    ]
    save(path, np.vstack(panels))


def main(arguments: Sequence[str] | None = None) -> None:
    """Map, ask, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("root")
    parser.add_argument("checkpoint")
    parser.add_argument("text")
    parser.add_argument("--sequences", nargs="+", default=["09", "10"])
    parser.add_argument("--labelset", default="semantickitti_coarse9")
    parser.add_argument("--ask", nargs="+", default=["car=vehicle", "tree=vegetation", "building-other=building"])
    parser.add_argument("--absent", nargs="+", default=["giraffe", "pizza", "boat"])
    parser.add_argument("--threshold", type=float, default=TextQuery.threshold)
    parser.add_argument("--extent", type=float, default=TextQuery.extent)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    names = LabelSet.load(options.labelset)
    segmenter, text = Segmenter.load(options.checkpoint, device="cpu"), load_text_source(options.text)
    asked = [tuple(each.split("=")) for each in options.ask]
    tallies, false = {each: Tally() for each in asked}, {word: 0 for word in options.absent}
    for sequence in options.sequences:
        frames = list(open_dataset(options.dataset, options.root, sequences=[sequence], labelset=options.labelset))
        semantic_map, truth = map_of(frames, segmenter, len(names.names))
        found = np.full(0, 0, np.int64), np.full(0, 0, np.int32)
        for (word, name), into in tallies.items():
            kind = names.names.index(name)
            query = TextQuery([word], background=names.prompts, threshold=options.threshold, extent=options.extent)
            keys = compare(semantic_map, truth, kind, query, text, into)
            found = np.append(found[0], keys), np.append(found[1], np.full(len(keys), kind, np.int32))
        for word in options.absent:
            false[word] += len(ask(semantic_map, TextQuery([word], background=names.prompts), text))
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            draw(options.out / f"{sequence}.png", semantic_map, truth, found, names)
    lines = ["| word | class | voxels P | voxels R | true voxels | matches right |", "|---|---|---|---|---|---|"]
    lines += [into.row(*each) for each, into in tallies.items()]
    lines.append(f"\nAbsent words, matches: {', '.join(f'{word} {count}' for word, count in false.items())}.")
    command = " ".join(["python benchmarks/labelled_map.py", *(sys.argv[1:] if arguments is None else arguments)])
    print("\n".join([f"`{command}`\n", *lines]))


if __name__ == "__main__":
    main()
