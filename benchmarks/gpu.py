"""One table for a CUDA machine, in minutes: parity with the CPU, networks and backends, scan to label, a training step.

    python benchmarks/gpu.py [--minutes 8] [--out out/gpu.md] [--device cuda]

Needs the project's installation and no data: the clouds are the simulator's, and SemanticKITTI's and nuScenes' where
``$OV3D_TEST_DATA`` has them. spconv is a row where it is installed. When the time is up, what has not begun is left
out, by name. Without a GPU it says so and ends with 0; ``--device cpu`` runs the same rows on the CPU.

A figure is the median of runs that take turns (A B C A B C ...), each timed to the end of the device's work; the
columns are milliseconds and MB that PyTorch allocated at most (CUDA only).
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sparse_cases import DATA, PEER, Case, Ours, clouds, contenders

from ov3d_perception import load

ARCHITECTURES = ("MinkUNet14A", "MinkUNet18A", "MinkUNet34C", "SPVCNN")
TURNS = 7


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=Path("out/gpu.md"))
    parser.add_argument("--device", default="cuda")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("No GPU: PyTorch finds no CUDA device here. `--device cpu` runs the rows on the processor.")
        return
    end = time.monotonic() + given.minutes * 60
    named = torch.cuda.get_device_name() if given.device == "cuda" else "CPU"
    lines = [f"# {named}, PyTorch {torch.__version__}", ""]
    for title, rows in (("Parity", parity), ("Scan to label", live), ("Networks", networks)):
        lines += [f"## {title}", ""]
        for line in rows(given.device, end):
            lines.append(line)
            print(line, flush=True)
        lines.append("")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("\n".join(lines))


def parity(device: str, end: float) -> Iterator[str]:
    """Largest difference of a network's features from the CPU's, over their standard deviation."""
    yield "| case | fp32 | bf16 |"
    yield "|---|---|---|"
    for arch in ARCHITECTURES:
        case = Case(arch, "simulated", 0.1, 1, False)
        if time.monotonic() > end:
            yield f"| {case} | left out: the time is up | |"
            continue
        truth = Ours()(case, "cpu")()
        scale = truth.std()
        found = [Ours(precision=precision)(case, device)().float().cpu() for precision in ("fp32", "bf16")]
        cells = [(features - truth).abs().max() / scale for features in found]
        yield f"| {case} | {cells[0]:.1e} | {cells[1]:.1e} |"


def live(device: str, end: float) -> Iterator[str]:
    """From a scan in main memory to a label for each point, with the shipped network and words."""
    yield "| cloud | points | precision | ms | labels as the CPU's in fp32 |"
    yield "|---|---|---|---|---|"
    models = {
        name: load(device=where, precision=precision)
        for name, where, precision in (("cpu", "cpu", "fp32"), ("fp32", device, "fp32"), ("auto", device, "auto"))
    }
    for data in available():
        (points,) = clouds(data, 1)
        runs = {name: partial(model.label, points) for name, model in models.items()}
        truth = runs.pop("cpu")().label
        for (name, run), ms in zip(runs.items(), timed(list(runs.values()), device), strict=True):
            same = float(np.mean(run().label == truth))
            yield f"| {data} | {len(points)} | {name} | {ms:.1f} | {same:.4f} |"


def networks(device: str, end: float) -> Iterator[str]:
    """All networks forward and in a training step, by every backend that can."""
    yield "| case | backend | ms | MB |"
    yield "|---|---|---|---|"
    for train, arch, data in itertools.product((False, True), ARCHITECTURES, available()):
        case = Case(arch, data, 0.1, 1, train)
        if time.monotonic() > end:
            yield f"| {case} | left out: the time is up | | |"
            continue
        named = {name: made for name, made in contenders(case, device).items() if name != PEER}
        runs = [made(case, device) for made in named.values()]
        for name, run, ms in zip(named, runs, timed(runs, device), strict=True):
            yield f"| {case} | {name} | {ms:.1f} | {peak_mb(run, device):.0f} |"


def available() -> list[str]:
    """The clouds that are on this machine."""
    found = []
    for data in DATA:
        try:
            clouds(data, 1)
        except (AssertionError, ValueError, OSError):
            continue
        found.append(data)
    return found


def timed(runs: list[Callable[[], object]], device: str) -> list[float]:
    """Median milliseconds of each, taking turns after one turn of warm-up."""
    seconds: list[list[float]] = [[] for _ in runs]
    for turn in range(TURNS + 1):
        for run, found in zip(runs, seconds, strict=True):
            finish(device)
            began = time.perf_counter()
            run()
            finish(device)
            if turn:
                found.append(time.perf_counter() - began)
    return [1000 * statistics.median(found) for found in seconds]


def finish(device: str) -> None:
    """Wait for the device's work."""
    if device == "cuda":
        torch.cuda.synchronize()


def peak_mb(run: Callable[[], object], device: str) -> float:
    """What PyTorch allocates at most during a run, above what there was; 0 on the CPU."""
    if device != "cuda":
        return 0.0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


if __name__ == "__main__":
    main()
