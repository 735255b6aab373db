"""Where the time of a live scan and of a training step goes: ``python benchmarks/profile_network.py --threads 1``.

The shipped network (models/street_minkunet.safetensors) on clouds of about 8,000, 20,000, 32,000 and 60,000 voxels: a
simulated street at 20 and 10 cm and a SemanticKITTI scan at 20 and 10 cm. Of a live scan: the voxels' keys, the kernel
maps, the table of layers, the layers together and, with one thread, each by itself. Of a training step, with AdamW and
a cosine loss on 6,000 voxels: each kind of work, and the rest. The least of some rounds is taken, so that other
processes disturb little; with one thread all times are the processor's, in which other processes do not count.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import sparse_cases
import torch
from torch import Tensor, nn

from ov3d_perception.networks.checkpoint import load_checkpoint
from ov3d_perception.networks.live import LiveNetwork
from ov3d_perception.networks.registry import Network
from ov3d_perception.sparse import SparseTensor, batch_norm, convolution, plan
from ov3d_perception.sparse.coordinates import CoordinateManager
from ov3d_perception.sparse.layer_code import Step
from ov3d_perception.sparse.plan import Layer, Plan

CLOUDS = {
    "8k": ("simulated", 0.2, 0.6),
    "20k": ("simulated", 0.1, 1.0),
    "32k": ("semantickitti", 0.2, 1.0),
    "60k": ("semantickitti", 0.1, 1.0),
}
"""Data, voxel [m], and the share of the cloud's x range that is kept."""
KINDS: dict[str, tuple[Any, str]] = {
    "kernel maps": (CoordinateManager, "_build"),
    "convolution: forward and gradient of features": (convolution, "_forward"),
    "convolution: gradient of kernels": (convolution, "_by_kernel"),
    "norm, sum, ReLU: forward": (batch_norm, "normalise"),
    "norm, sum, ReLU: gradient": (batch_norm._Normalise, "backward"),
    "optimiser": (torch.optim.AdamW, "step"),
}
"""Where each kind of work of a training step is done."""
Times = dict[str, float]


def voxels_of(cloud: str) -> tuple[Tensor, Tensor]:
    """Coordinates and three features."""
    data, size, share = CLOUDS[cloud]
    coords, feats = sparse_cases.voxels(data, size, 1)
    x = coords[:, 1].float()
    kept = x <= torch.quantile(x, share)
    return coords[kept], feats[kept]


def live(network: LiveNetwork, coords: Tensor, feats: Tensor) -> Times:
    """Seconds by part of one scan and by layer. The layers are timed in a second run, one call for each."""
    assert network.plan is not None
    found: Times = {}
    clock = a_clock()
    start = clock()
    x = SparseTensor(feats, coords)
    found["voxels"] = clock() - start

    def timed(name: str) -> Any:
        run = getattr(Plan, name)

        def instead(*arguments: object) -> object:
            began = clock()
            result = run(*arguments)
            found[name] = clock() - began
            return result

        return patch.object(Plan, name, instead)

    run, layers = plan.runner(), dict[str, float]()

    def one_call(*arguments: int) -> None:
        began = clock()
        run(*arguments)
        found["layers"] = clock() - began

    def call_for_each(table: int, counters: int, sums: int, count: int) -> None:
        for number in range(count):
            began = clock()
            run(table + 8 * number * len(Step._fields), counters + 16 * number, sums, 1)
            layers[f"{number}: {_named(network.plan.layers[number])}"] = clock() - began

    with patch.object(plan, "runner", lambda: one_call), timed("_maps"), timed("_run"):
        network(x)
    total = clock() - start
    if torch.get_num_threads() == 1:
        with patch.object(plan, "runner", lambda: call_for_each):
            network(x)
    parts = {"voxels": found["voxels"], "kernel maps": found["_maps"], "table": found["_run"] - found["layers"]}
    parts["layers"] = found["layers"]
    return parts | {"all": total} | layers


def _named(made: Layer) -> str:
    fine, coarse, size, _ = made.stencil
    way = f"{coarse} to {fine}" if made.transposed else f"{fine} to {coarse}"
    return f"{size}x{size}x{size}, stride {way}, {made.source.channels} to {made.target.channels} channels"


class Training:
    """A training step, without its data and without a teacher."""

    def __init__(self, network: Network, coords: Tensor, feats: Tensor) -> None:
        torch.manual_seed(0)
        self.network, self.coords, self.feats = network.train(), coords, feats
        self.optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
        self.rows = torch.randperm(len(coords))[:6000]
        self.teacher = nn.functional.normalize(torch.randn(len(self.rows), network.out_channels), dim=1)

    def step(self) -> None:
        """Forward, backward, optimiser."""
        self.optimiser.zero_grad()
        features = self.network(SparseTensor(self.feats, self.coords)).feats
        student = self.network.head(features[self.rows])
        (1 - torch.cosine_similarity(student, self.teacher)).mean().backward()
        self.optimiser.step()

    def profile(self) -> Times:
        """Seconds by kind of work; the rest is 1x1 convolutions, joining, head, loss, autograd and Python."""
        found = dict.fromkeys(KINDS, 0.0)
        clock = a_clock()
        with ExitStack() as stack:
            for kind, (owner, name) in KINDS.items():
                stack.enter_context(patch.object(owner, name, _timed(getattr(owner, name), kind, found, clock)))
            start = clock()
            self.step()
            total = clock() - start
        return found | {"the rest": total - sum(found.values()), "all": total}


def _timed(run: Callable[..., Any], kind: str, found: Times, clock: Callable[[], float]) -> Any:
    def instead(*arguments: Any, **options: Any) -> Any:
        began = clock()
        result = run(*arguments, **options)
        found[kind] += clock() - began
        return result

    return instead


def a_clock() -> Callable[[], float]:
    """With one thread the processor's time, in which other processes do not count."""
    return time.process_time if torch.get_num_threads() == 1 else time.perf_counter


def least(run: Callable[[], Times], rounds: int) -> Times:
    """The least of each entry, after a round that is not counted."""
    run()
    every: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name, spent in run().items():
            every[name].append(spent)
    return {name: min(spent) for name, spent in every.items()}


def table(head: str, columns: dict[str, Times]) -> str:
    """Milliseconds, a column for each cloud."""
    lines = [f"{head} [ms] | " + " | ".join(columns), "-- | " + " | ".join("--:" for _ in columns)]
    for name in next(iter(columns.values())):
        lines.append(f"{name} | " + " | ".join(f"{spent[name] * 1e3:.1f}" for spent in columns.values()))
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clouds", nargs="+", default=list(CLOUDS), choices=CLOUDS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16"], help="of the live scan")
    parser.add_argument("--checkpoint", type=Path, default=Path("models/street_minkunet.safetensors"))
    options = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != str(options.threads):  # read by libraries when they are loaded
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
        os.execv(sys.executable, [sys.executable, *sys.argv])
    torch.set_num_threads(options.threads)
    network, _ = load_checkpoint(options.checkpoint)
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    folded = LiveNetwork(network, torch.device("cpu"), dtype)
    scans, steps = {}, {}
    for cloud in options.clouds:
        coords, feats = voxels_of(cloud)
        name = f"{len(coords)} voxels"
        scans[name] = least(partial(live, folded, coords, feats.to(dtype)), options.rounds)
        steps[name] = least(Training(network, coords, feats).profile, options.rounds)
    print(table(f"live scan, {options.precision}, {options.threads} threads", scans))
    print()
    print(table(f"training step, {options.threads} threads", steps))


if __name__ == "__main__":
    main()
