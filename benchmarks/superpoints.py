"""How well superpoints keep to classes, and what they take: ours, PCL's VCCS, and a graph's on the range image.

    python benchmarks/superpoints.py SEMANTICKITTI [--pcl PATH] [--scans 1] [--picture FILE]

Scans of each sequence of the folder, its labels as truth. PATH is the program made of ``benchmarks/pcl_vccs.cpp``; the
graph-based segmentation of Felzenszwalb and Huttenlocher (2004) is scikit-image's, of 64 x 1024 directions.

* purity: share of the points that are of their superpoint's most frequent class.
* boundary recall: of the pairs of near points of two classes, the share that lies in two superpoints; cut: of those of
  one class. Pairs are each point's eight nearest within half a metre.
* under-segmentation: what leaks out of the classes, after Neubert and Protzel (2012), as a share of the points.

All are of the points that a method gives a superpoint, and that have a class.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial import cKDTree
from skimage.segmentation import felzenszwalb

from ov3d_perception.datasets.semantickitti import SemanticKitti
from ov3d_perception.geometry.superpoints import Vccs, compress, superpoints
from ov3d_perception.types import UNLABELLED

Method = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, float]]
"""Superpoint of each point (-1: none) and the processor's milliseconds, from xyz and intensity."""


@dataclass(frozen=True)
class Figures:
    """See the module; of one scan."""

    superpoints: float
    without: float
    purity: float
    recall: float
    cut: float
    leak: float
    milliseconds: float


def figures(found: np.ndarray, label: np.ndarray, near: tuple[np.ndarray, np.ndarray], milliseconds: float) -> Figures:
    """Scores of the superpoints ``found``; near: pairs of near points."""
    known = (label != UNLABELLED) & (found >= 0)
    number = np.unique(found[known], return_inverse=True)[1]
    votes = np.zeros((number.max() + 1, label[known].max() + 1))
    np.add.at(votes, (number, label[known]), 1)
    total, size = votes.sum(), votes.sum(1, keepdims=True)
    leak = np.where(votes > 0, np.minimum(votes, size - votes), 0).sum() / total
    both = known[near[0]] & known[near[1]]
    first, second = near[0][both], near[1][both]
    apart, border = found[first] != found[second], label[first] != label[second]
    return Figures(
        len(np.unique(found[found >= 0])),
        float((found < 0).mean()),
        votes.max(1).sum() / total,
        apart[border].mean(),
        apart[~border].mean(),
        leak,
        milliseconds,
    )


def near_pairs(xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each point with its eight nearest within half a metre."""
    other = cKDTree(xyz).query(xyz, k=9, distance_upper_bound=0.5)[1][:, 1:].reshape(-1)
    own = np.repeat(np.arange(len(xyz)), 8)
    return own[other < len(xyz)], other[other < len(xyz)]


def ours(options: Vccs) -> Method:
    """VCCS of this project."""

    def run(xyz: np.ndarray, intensity: np.ndarray) -> tuple[np.ndarray, float]:
        begin = time.process_time()
        found = superpoints(xyz, intensity[:, None], options)
        return found, 1e3 * (time.process_time() - begin)

    return run


def pcl(program: Path, voxel: float, seed: float, options: Vccs) -> Method:
    """PCL's, with the weights of ``options``."""

    def run(xyz: np.ndarray, intensity: np.ndarray) -> tuple[np.ndarray, float]:
        with tempfile.TemporaryDirectory() as folder:
            scan, out = Path(folder) / "scan.bin", Path(folder) / "out.bin"
            np.column_stack([xyz, intensity]).astype(np.float32).tofile(scan)
            weights = (options.colour, options.spatial, options.normal)
            command = [program, scan, out, voxel, seed, *weights]
            said = subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)
            return np.fromfile(out, np.int32).astype(np.int64) - 1, 1e3 * float(said.stdout)

    return run


def by_graph(scale: float) -> Method:
    """Felzenszwalb and Huttenlocher's, of the image of compressed places and intensity; no point is at the origin."""

    def run(xyz: np.ndarray, intensity: np.ndarray) -> tuple[np.ndarray, float]:
        begin = time.process_time()
        elevation = np.degrees(np.arcsin(xyz[:, 2] / np.linalg.norm(xyz, axis=1)))
        row = ((3 - elevation) / 28.5 * 64).astype(int).clip(0, 63)
        column = ((np.arctan2(xyz[:, 1], xyz[:, 0]) / (2 * np.pi) + 0.5) * 1024).astype(int) % 1024
        image = np.zeros((64, 1024, 4), np.float32)
        image[row, column] = np.column_stack([compress(xyz, 5.0), np.sqrt(0.2) * intensity])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # four channels "may not be intended"
            segments = felzenszwalb(image, scale=scale, sigma=0, min_size=5, channel_axis=2)
        return segments[row, column], 1e3 * (time.process_time() - begin)

    return run


def picture(xyz: np.ndarray, found: np.ndarray, path: Path, reach: float = 16.0, pixel: float = 0.04) -> None:
    """The superpoints from above, each in a colour of its own."""
    size = int(2 * reach / pixel)
    image = np.full((size, size, 3), 255, np.uint8)
    colour = np.random.default_rng(0).integers(0, 230, (found.max() + 1, 3), np.uint8)
    row, column = ((reach - xyz[:, axis]) / pixel for axis in (0, 1))
    order = np.argsort(xyz[:, 2])
    order = order[(np.abs(xyz[order, :2]) < reach - pixel).all(1)]
    image[row[order].astype(int), column[order].astype(int)] = colour[found[order]]
    cv2.imwrite(str(path), cv2.erode(image, np.ones((3, 3), np.uint8)))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("semantickitti", type=Path)
    parser.add_argument("--pcl", type=Path)
    parser.add_argument("--scans", type=int, default=1, help="of each sequence")
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    source = SemanticKitti(args.semantickitti, images=False)
    every = len(source) // len(source.sequences)
    frames = [source[first + scan] for first in range(0, len(source), every) for scan in range(args.scans)]
    default = Vccs()
    methods = {f"ours, seeds {s:g} m": ours(Vccs(seed=s)) for s in (0.3, 0.4, 0.5, 0.6, 0.8)}
    methods |= {
        f"ours, same size everywhere, voxels {v:g} m, seeds {s:g} m": ours(Vccs(voxel=v, seed=s, near=None))
        for v, s in ((0.1, 0.5), (0.2, 1.0))
    }
    if args.pcl:
        methods |= {
            f"PCL, voxels {v:g} m, seeds {s:g} m": pcl(args.pcl, v, s, default)
            for v, s in ((0.05, 0.5), (0.1, 0.5), (0.2, 0.6), (0.2, 1.0), (0.3, 1.0), (0.4, 1.5))
        }
    methods |= {f"range image, scale {scale:g}": by_graph(scale) for scale in (10.0, 50.0)}
    superpoints(frames[0].sweeps[0].scan.xyz, frames[0].sweeps[0].scan.intensity[:, None])  # compiles
    rows: dict[str, list[Figures]] = {name: [] for name in methods}
    for frame in frames:
        scan, label = frame.sweeps[0].scan, frame.labels
        near = near_pairs(scan.xyz)
        for name, method in methods.items():
            found, milliseconds = method(scan.xyz, scan.intensity)
            rows[name].append(figures(found, label, near, milliseconds))
    means = {name: Figures(*np.mean([astuple(one) for one in found], 0)) for name, found in rows.items()}
    points = np.mean([len(frame.sweeps[0].scan) for frame in frames])
    print(f"{len(frames)} scans of {points:.0f} points; ms: median of the processor's time\n")
    print("| | superpoints | points without | purity | boundary recall | cut | under-segmentation | ms |")
    print("|---" + "|--:" * 7 + "|")
    for name, m in means.items():
        milliseconds = np.median([one.milliseconds for one in rows[name]])
        shares = " | ".join(f"{value:.3f}" for value in (m.purity, m.recall, m.cut, m.leak))
        print(f"| {name} | {m.superpoints:.0f} | {100 * m.without:.1f} % | {shares} | {milliseconds:.0f} |")
    if args.picture:
        scan = frames[0].sweeps[0].scan
        picture(scan.xyz, superpoints(scan.xyz, scan.intensity[:, None]), args.picture)


if __name__ == "__main__":
    main()
