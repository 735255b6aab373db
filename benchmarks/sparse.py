"""Sparse networks side by side: ours, MinkowskiEngine, and on CUDA spconv.

    python benchmarks/sparse.py --quick                  # MinkUNet18A, SemanticKITTI, 5 and 10 cm
    python benchmarks/sparse.py                          # all networks, clouds, voxels and batches
    python benchmarks/sparse.py --scaling                # points x1, x2, x4, x8, and two million

Contenders take turns (A B C A B C ...), so that what else the machine does hits all alike, and a contender's ratio is
taken within each turn: the median of these ratios and, in brackets, their quartiles. All start from voxelised
coordinates and make their kernel maps in every run. Peak memory is that of a process of its own for each contender:
the resident set above what it is once libraries, network and voxels are there (on CUDA: allocated memory), with
large allocations given back at once (MALLOC_MMAP_THRESHOLD_), since what glibc keeps of them is chance.
MinkowskiEngine's row is a network of its own modules (minkowski_networks.py); for SPVCNN, which it has not, it is our
network on the ``minkowski`` backend. "folded" is the network as the Segmenter runs it, batch normalisation folded into
the convolutions; without, it is layer by layer what MinkowskiEngine runs.

Writes NAME.md and NAME.json to --out; --page FILE also puts the table between the markers of that name in FILE.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import sparse_cases
import torch
from sparse_cases import DATA, PEER, Case, contenders, voxels
from torch import Tensor

from ov3d_perception.networks.live import LiveNetwork
from ov3d_perception.sparse import SparseTensor, quantize

Row = dict[str, Any]


def main() -> None:
    """Parses the command line, measures, writes."""
    options = _options()
    if os.environ.get("OMP_NUM_THREADS") != str(options.threads):  # read by libraries when they are loaded
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
        os.execv(sys.executable, [sys.executable, *sys.argv])
    torch.set_num_threads(options.threads)
    if options.memory_of:
        name, *fields = json.loads(options.memory_of)
        print(json.dumps(_peak(Case(*fields), name, options.device)))
        return
    rows = (
        _scaling(options) if options.scaling else [row for case in _cases(options) for row in _measure(case, options)]
    )
    _write(rows, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--networks", nargs="+", default=["MinkUNet18A", "MinkUNet34C", "SPVCNN"])
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=DATA)
    parser.add_argument("--voxels", nargs="+", type=float, default=[0.05, 0.1, 0.2])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--modes", nargs="+", default=["forward", "step"], choices=["forward", "step"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("out/benchmarks"))
    parser.add_argument("--name", help="default: sparse, with --scaling sparse-scaling")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.name = options.name or ("sparse-scaling" if options.scaling else "sparse")
    if options.quick:
        options.networks, options.data, options.voxels, options.batch = (
            ["MinkUNet18A"],
            ["semantickitti"],
            [0.1, 0.05],
            [1],
        )
    return options


def _cases(options: argparse.Namespace) -> list[Case]:
    wanted = product(options.networks, options.data, options.voxels, options.batch, options.modes)
    return [Case(arch, data, voxel, batch, mode == "step") for arch, data, voxel, batch, mode in wanted]


def _measure(case: Case, options: argparse.Namespace) -> list[Row]:
    """All contenders in turns after one turn of warming up."""
    runs = {name: make(case, options.device) for name, make in contenders(case, options.device).items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    reference: Tensor | None = None
    cosine: dict[str, float] = {}
    for turn in range(options.rounds + 1):
        for name, run in runs.items():
            spent, out = _timed(run, options.device)
            if turn:
                seconds[name].append(spent)
            elif not case.train:
                reference = out.float() if reference is None else reference
                cosine[name] = float(torch.cosine_similarity(out.float(), reference).min())
            del out
    del reference
    first = np.array(next(iter(seconds.values())))
    rows = []
    for name, spent in seconds.items():
        ratio = np.percentile(first / np.array(spent), [25, 50, 75]).tolist()
        memory = None if options.no_memory else _memory(case, name, options)
        row = asdict(case) | {"voxels": len(voxels(case.data, case.voxel, case.batch)[0]), "contender": name}
        row |= {"median_s": float(np.median(spent)), "ratio": ratio, "peak_mb": memory, "seconds": spent}
        rows.append(row | {"least_cosine": cosine.get(name)})
        print(f"{case}: {_line(row)}", flush=True)
    return rows


def _timed(run: Callable[[], Tensor], device: str) -> tuple[float, Tensor]:
    start = time.perf_counter()
    out = run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, out


def _memory(case: Case, name: str, options: argparse.Namespace) -> float:
    """Peak memory in MB, from a process of its own, in which large allocations go back to the system when freed: the
    holes that glibc otherwise leaves differ by 200 MB from run to run.
    """
    wanted = json.dumps([name, *asdict(case).values()])
    command = [sys.executable, __file__, "--memory-of", wanted, "--device", options.device]
    command += ["--threads", str(options.threads)]
    steady = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    done = subprocess.run(command, env=steady, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def _peak(case: Case, name: str, device: str) -> float:
    run = contenders(case, device)[name](case, device)
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        for _ in range(3):
            run()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = _resident("VmRSS")
    for _ in range(3):
        run()
    return _resident("VmHWM") - before


def _resident(field: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


def _scaling(options: argparse.Namespace) -> list[Row]:
    """Copies of a scan side by side, from points to MinkUNet18A's point features, as the Segmenter makes them."""
    (scan,) = (torch.from_numpy(cloud) for cloud in sparse_cases.clouds("semantickitti", 1))
    made = LiveNetwork(sparse_cases.network("MinkUNet18A"), torch.device(options.device), torch.float32)
    low = scan[:, :3].amin(0)
    step = torch.ceil(scan[:, :3].amax(0) - low)
    rows = []
    for copies in (1, 2, 4, 8, -(-2_000_000 // len(scan))):
        places = [step * torch.tensor([index % 4, index // 4, 0]) for index in range(copies)]
        xyz = torch.cat([scan[:, :3] - low + place for place in places]).to(options.device)
        feats = torch.ones(len(xyz), sparse_cases.IN_CHANNELS, device=options.device)

        def run(xyz: Tensor = xyz, feats: Tensor = feats) -> Tensor:
            with torch.inference_mode():
                coords, mean, _ = quantize(xyz, options.voxels[-2], feats)
                return made(SparseTensor(mean, coords)).feats

        run()
        seconds, count = [], 0
        for _ in range(options.rounds if copies <= 8 else 1):
            spent, out = _timed(run, options.device)
            seconds.append(spent)
            count = len(out)
        median = float(np.median(seconds))
        rows.append({"points": len(xyz), "voxels": count, "median_s": median, "us_per_voxel": median / count * 1e6})
        print(rows[-1], flush=True)
    return rows


def _line(row: Row) -> str:
    low, median, high = row["ratio"]
    memory = "-" if row["peak_mb"] is None else f"{row['peak_mb']:.0f}"
    return f"{row['contender']} | {row['median_s'] * 1e3:.0f} | {median:.2f} ({low:.2f}-{high:.2f}) | {memory}"


def _table(rows: list[Row]) -> str:
    if rows and "us_per_voxel" in rows[0]:
        head = ["points | voxels | time [s] | time a voxel [us]", "--: | --: | --: | --:"]
        lines = [f"{r['points']} | {r['voxels']} | {r['median_s']:.2f} | {r['us_per_voxel']:.1f}" for r in rows]
    else:
        first = rows[0]["contender"] if rows else PEER
        head = [
            f"network | cloud | voxel [cm] | batch | voxels | run | by | median [ms] | times as fast as {first} | "
            "peak memory [MB] | least cosine",
            "-- | -- | --: | --: | --: | -- | -- | --: | --: | --: | --:",
        ]
        lines = []
        for row in rows:
            place = [row["arch"], row["data"], f"{row['voxel'] * 100:g}", row["batch"], row["voxels"]]
            cosine = "-" if row["least_cosine"] is None else f"{row['least_cosine']:.5f}"
            mode = "step" if row["train"] else "forward"
            lines.append(" | ".join([*map(str, place), mode, _line(row), cosine]))
    return "\n".join(f"| {line} |" for line in (*head, *lines))


def _write(rows: list[Row], options: argparse.Namespace) -> None:
    """Table and figures; the table also into the page."""
    options.out.mkdir(parents=True, exist_ok=True)
    name = options.name
    (options.out / f"{name}.json").write_text(json.dumps(rows, indent=1))
    command = f"python {' '.join(sys.argv)}"
    device = torch.cuda.get_device_name() if options.device == "cuda" else f"{_processor()}, {options.threads} threads"
    when = time.strftime("%Y-%m-%d")
    text = f"`{command}`, {options.rounds} rounds, {device}, torch {torch.__version__}, {when}\n\n{_table(rows)}\n"
    (options.out / f"{name}.md").write_text(text)
    if options.page:
        page = options.page.read_text()
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        before, rest = page.split(begin)
        options.page.write_text(before + begin + text + end + rest.split(end)[1])


def _processor() -> str:
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
