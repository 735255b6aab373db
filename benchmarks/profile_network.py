"""Where the time of a live scan and of a training step goes: ``python benchmarks/profile_network.py --threads 1``.

The shipped network (models/street_minkunet.safetensors) on clouds of about 8,000, 20,000, 32,000 and 60,000 voxels: a
simulated street at 20 and 10 cm and a SemanticKITTI scan at 20 and 10 cm. Of a live scan: the voxels' keys, the kernel
maps, the table of layers and its memory, the layers together and, with one thread, each by itself. Of a training step,
with AdamW and a cosine loss on 6,000 voxels, under autocast where the precision is bf16: each kind of work, and the
rest. The least of some rounds is taken, so that other processes disturb little; with one thread all times are the
processor's, in which other processes do not count.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import sparse_cases
import torch
from torch import Tensor, nn

from ov3d_perception.methods.linear_head import HeadCosines
from ov3d_perception.networks.checkpoint import load_checkpoint
from ov3d_perception.networks.live import LiveNetwork
from ov3d_perception.networks.precision import choose
from ov3d_perception.networks.registry import Network
from ov3d_perception.sparse import SparseTensor, plan, training_plan
from ov3d_perception.sparse.coordinates import CoordinateManager
from ov3d_perception.sparse.recording import Recorded
from ov3d_perception.sparse.steps import run_steps, runner, table_of
from ov3d_perception.training.kept_memory import keep_freed_memory

CLOUDS = {
    "8k": ("simulated", 0.2, 0.6),
    "20k": ("simulated", 0.1, 1.0),
    "32k": ("semantickitti", 0.2, 1.0),
    "60k": ("semantickitti", 0.1, 1.0),
}
"""Data, voxel [m], and the share of the cloud's x range that is kept."""
KINDS = {
    "Step": "convolution: forward and gradient of features",
    "KernelGradientStep": "convolution: gradient of kernels",
    "PackStep": "kernels laid out",
    "NormStep": "norm, sum, ReLU: forward and gradient",
}
"""What each kind of record of a training step does."""
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

    maps, layers = plan.maps_of, dict[str, float]()

    def timed_maps(*arguments: Any) -> Any:
        began = clock()
        result = maps(*arguments)
        found["kernel maps"] = clock() - began
        return result

    def one_call(records: Sequence[tuple[int, ...]], room: int) -> None:
        began = clock()
        run_steps(records, room)
        found["layers"] = clock() - began

    def call_for_each(records: Sequence[tuple[int, ...]], room: int) -> None:
        assert network.plan is not None
        for number, (record, made) in enumerate(zip(records, network.plan.layers, strict=True)):
            began = clock()
            run_steps([record], room)
            layers[f"{number}: {_named(made.recorded)}"] = clock() - began

    with patch.object(plan, "run_steps", one_call), patch.object(plan, "maps_of", timed_maps):
        network(x)
    total = clock() - start
    if torch.get_num_threads() == 1:
        with patch.object(plan, "run_steps", call_for_each):
            network(x)
    parts = {name: found[name] for name in ("voxels", "kernel maps", "layers")}
    return parts | {"table, memory": total - sum(parts.values()), "all": total} | layers


def _named(made: Recorded) -> str:
    fine, coarse, size, _ = made.stencil
    way = f"{coarse} to {fine}" if made.transposed else f"{fine} to {coarse}"
    return f"{size}x{size}x{size}, stride {way}, {made.source.channels} to {made.target.channels} channels"


class Training:
    """A training step, without its data and without a teacher; half: under autocast to bfloat16."""

    def __init__(self, network: Network, coords: Tensor, feats: Tensor, half: bool) -> None:
        self.half = half
        torch.manual_seed(0)
        self.network, self.coords, self.feats = network.train(), coords, feats
        self.optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
        self.rows = torch.randperm(len(coords))[:6000]
        self.teacher = nn.functional.normalize(torch.randn(len(self.rows), network.out_channels), dim=1)

    def step(self) -> None:
        """Forward, backward, optimiser."""
        self.optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            features = self.network(SparseTensor(self.feats, self.coords)).feats
            student = HeadCosines(features.index_select(0, self.rows), self.network.basis)
        (1 - student.with_each(self.teacher)).mean().backward()
        self.optimiser.step()

    def profile(self) -> Times:
        """Seconds by kind of work. With one thread each record is a call of its own; the rest is head, loss, autograd
        and Python."""
        clock, split = a_clock(), torch.get_num_threads() == 1
        found = dict.fromkeys(["kernel maps", *(KINDS.values() if split else ["layers"]), "optimiser"], 0.0)

        def call_for_each(records: Sequence[tuple[int, ...]], room: int) -> None:
            table, counters = table_of(records), torch.zeros(2 * len(records), dtype=torch.int64)
            sums, run = torch.empty(room), runner()
            for number, record in enumerate(records):
                places = table[number].data_ptr(), counters[2 * number :].data_ptr(), sums.data_ptr()
                _timed(run, KINDS[type(record).__name__], found, clock)(*places, 1)

        places: list[tuple[Any, str, str]] = [
            (CoordinateManager, "_build", "kernel maps"),
            (torch.optim.AdamW, "step", "optimiser"),
        ]
        places += [] if split else [(training_plan, "run_steps", "layers")]
        with ExitStack() as stack:
            for owner, name, kind in places:
                stack.enter_context(patch.object(owner, name, _timed(getattr(owner, name), kind, found, clock)))
            if split:
                stack.enter_context(patch.object(training_plan, "run_steps", call_for_each))
            start = clock()
            self.step()
            total = clock() - start
        return found | {"the rest": total - sum(found.values()), "all": total}

    def whole(self) -> Times:
        """Seconds of a step whose records are run in one call."""
        clock = a_clock()
        start = clock()
        self.step()
        return {"all": clock() - start}


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
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16", "int8"])
    parser.add_argument("--checkpoint", type=Path, default=Path("models/street_minkunet.safetensors"))
    options = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != str(options.threads):  # read by libraries when they are loaded
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
        os.execv(sys.executable, [sys.executable, *sys.argv])
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as a training does
    network, info = load_checkpoint(options.checkpoint)
    dtype, largest = choose(options.precision, torch.device("cpu"), "torch", info.largest_outputs)
    folded = LiveNetwork(network, torch.device("cpu"), dtype, largest)
    scans, steps = {}, {}
    for cloud in options.clouds:
        coords, feats = voxels_of(cloud)
        name = f"{len(coords)} voxels"
        scans[name] = least(partial(live, folded, coords, feats.to(dtype)), options.rounds)
        training = Training(network, coords, feats, options.precision == "bf16")
        steps[name] = least(training.profile, options.rounds) | least(training.whole, options.rounds)
    print(table(f"live scan, {options.precision}, {options.threads} threads", scans))
    print()
    half = "bf16" if options.precision == "bf16" else "fp32"
    print(table(f"training step, {half}, {options.threads} threads", steps))


if __name__ == "__main__":
    main()
