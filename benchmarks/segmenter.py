"""How long a scan takes: network, words, and their parts.

    python benchmarks/segmenter.py [--points FILE.bin] [--network MinkUNet14A:0.5] [--voxel 0.1] [--training]

FILE.bin is a KITTI scan (float32 x y z intensity); without it the first SemanticKITTI scan of the test data is taken.
Prints medians of wall milliseconds, and of CPU milliseconds, which other processes disturb less.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from ov3d_perception.inference import Segmenter
from ov3d_perception.language.narrow import NarrowText
from ov3d_perception.networks.checkpoint import CheckpointInfo
from ov3d_perception.networks.inputs import point_inputs
from ov3d_perception.networks.minkunet import MinkUNet
from ov3d_perception.paths import test_data_dir
from ov3d_perception.sparse import SparseTensor, quantize
from ov3d_perception.sparse.coordinates import CoordinateManager
from ov3d_perception.types import EncoderIdentity

INPUTS = ("ones", "intensity")
DIMENSION = 512


def main() -> None:
    """Parses the command line and prints one line a measurement."""
    options = _options()
    torch.set_num_threads(options.threads)
    points = np.fromfile(options.points, np.float32).reshape(-1, 4)
    xyz, intensity = points[:, :3].copy(), points[:, 3].copy()
    print(f"{len(xyz)} points of {options.points}, {options.threads} threads")
    for name in options.network:
        arch, _, width = name.partition(":")
        for voxel in options.voxel:
            info = CheckpointInfo(arch, float(width or 1), INPUTS, voxel, EncoderIdentity("none", "none", DIMENSION))
            _network(info, xyz, intensity, options)
            if options.training:
                _training(info, xyz, intensity, options)
    _words(options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=Path, default=None)
    parser.add_argument("--network", nargs="+", default=["MinkUNet14A:0.5", "MinkUNet14A:1", "MinkUNet18A:1"])
    parser.add_argument("--voxel", nargs="+", type=float, default=[0.1, 0.05])
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--training", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.points is None:
        data = test_data_dir()
        if data is None:
            parser.error("there is no test data; name a scan with --points")
        options.points = data / "semantickitti" / "sequences" / "00" / "velodyne" / "000000.bin"
        if not options.points.is_file():
            options.points = min(data.glob("semantickitti/**/velodyne/*.bin"))
    return options


def _network(info: CheckpointInfo, xyz: np.ndarray, intensity: np.ndarray, options: argparse.Namespace) -> None:
    network = info.build().eval()
    label = f"{info.arch} x{info.width:g} {info.voxel_size * 100:g} cm"
    coords, _, _ = quantize(torch.from_numpy(xyz), info.voxel_size, torch.ones(len(xyz), 1))
    _report(f"{label} kernel maps ({len(coords)} voxels)", lambda: _maps(coords), options.repeats)
    for precision in options.precision:
        segmenter = Segmenter(network, info, device="cpu", precision=precision)
        _report(f"{label} {precision} scan", lambda s=segmenter: s.features(xyz, intensity), options.repeats)


def _maps(coords: torch.Tensor) -> None:
    """All kernel maps of a MinkUNet."""
    manager = CoordinateManager(coords)
    _ = manager.kernel_map(1, 1, 5).bags, manager.kernel_map(1, 1, 3).bags
    for stride in (1, 2, 4, 8):
        down = manager.kernel_map(stride, 2 * stride, 2)
        _ = down.bags, down.transposed.bags, manager.kernel_map(2 * stride, 2 * stride, 3).bags


def _training(info: CheckpointInfo, xyz: np.ndarray, intensity: np.ndarray, options: argparse.Namespace) -> None:
    network = info.build().train()
    cloud = torch.from_numpy(xyz)
    inputs = point_inputs(INPUTS, cloud, torch.from_numpy(intensity), info.voxel_size)
    for precision in options.precision:
        label = f"{info.arch} x{info.width:g} {info.voxel_size * 100:g} cm {precision} training step"
        _report(label, lambda p=precision: _step(network, cloud, inputs, info.voxel_size, p), options.repeats)


def _step(network: MinkUNet, cloud: torch.Tensor, inputs: torch.Tensor, voxel_size: float, precision: str) -> None:
    """Forward and backward with a sixth of the voxels seen by a camera."""
    coords, mean, _ = quantize(cloud, voxel_size, inputs)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        wide = network.head(network(SparseTensor(mean, coords)).feats[::6])
    wide.float().square().mean().backward()
    network.zero_grad()


def _words(options: argparse.Namespace) -> None:
    generator = np.random.default_rng(0)
    basis = generator.normal(size=(96, DIMENSION)).astype(np.float32)
    features = generator.normal(size=(25_000, 96)).astype(np.float32)
    for prompts in (16, 171):
        embeddings = generator.normal(size=(prompts, DIMENSION)).astype(np.float32)
        _report(f"project {prompts} prompts", lambda e=embeddings: NarrowText(basis, e), options.repeats)
        text, owner = NarrowText(basis, embeddings), np.arange(prompts)
        label = f"classify 25000 voxels x 96 channels, {prompts} prompts"
        _report(label, lambda t=text, o=owner: t.classify(features, o, 100.0), options.repeats)


def _report(label: str, work: Callable[[], object], repeats: int) -> None:
    work()
    wall, cpu = [], []
    for _ in range(repeats):
        before, before_cpu = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - before)
        cpu.append(time.process_time() - before_cpu)
    spread = f"{min(wall) * 1e3:.1f}-{max(wall) * 1e3:.1f}"
    print(f"{label}: {np.median(wall) * 1e3:.1f} ms wall ({spread}), {np.median(cpu) * 1e3:.1f} ms CPU", flush=True)


if __name__ == "__main__":
    main()
