"""One sparse convolution, compiled and by PyTorch's operations: ``python benchmarks/kernels.py [--data simulated]``.

A 3x3x3 convolution on a scan's voxels at 10 cm, forward and both gradients, in turns; GFLOP/s by the pairs that meet.
Beside them what MKL does on one large matrix, which is about what the processor can.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from statistics import median
from unittest.mock import patch

import torch
from sparse_cases import DATA, voxels

from ov3d_perception.sparse.convolution import convolve
from ov3d_perception.sparse.coordinates import CoordinateManager

CHANNELS = (32, 64, 96, 128, 256)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="semantickitti", choices=DATA)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != str(options.threads):  # read by libraries when they are loaded
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
        os.execv(sys.executable, [sys.executable, *sys.argv])
    torch.set_num_threads(options.threads)
    coords, _ = voxels(options.data, 0.1, 1)
    kernel_map = CoordinateManager(coords).kernel_map(1, 1, 3)
    pairs = len(kernel_map.in_rows)
    a = torch.randn(2048, 2048)
    library = 2 * 2048**3 / _seconds(lambda: a @ a, options.rounds) / 1e9
    print(f"{len(coords)} voxels, {pairs} pairs, {options.threads} threads; a matrix product: {library:.0f} GFLOP/s")
    print("| channels | type | forward: compiled | PyTorch | forward and backward: compiled | PyTorch |")
    print("| --: | -- | --: | --: | --: | --: |")
    for channels in CHANNELS:
        for dtype in (torch.float32, torch.bfloat16):
            feats, kernel = torch.randn(len(coords), channels), torch.randn(27, channels, channels) / channels
            feats, kernel = (tensor.to(dtype).requires_grad_() for tensor in (feats, kernel))

            def forward(feats: torch.Tensor = feats, kernel: torch.Tensor = kernel) -> None:
                with torch.inference_mode():
                    convolve(feats, kernel, kernel_map)

            def step(feats: torch.Tensor = feats, kernel: torch.Tensor = kernel) -> None:
                out = convolve(feats, kernel, kernel_map)
                out.backward(out.detach())

            flop = 2 * pairs * channels**2 / 1e9
            figures = []
            for run, times in ((forward, 1), (step, 3)):
                compiled, plain = _in_turns(run, options.rounds)
                figures += [times * flop / compiled, times * flop / plain]
            print(f"| {channels} | {str(dtype)[6:]} | " + " | ".join(f"{figure:.0f}" for figure in figures) + " |")


def _in_turns(run: Callable[[], None], rounds: int) -> tuple[float, float]:
    """Median seconds of the compiled and of the other way."""
    seconds: tuple[list[float], list[float]] = [], []
    for _ in range(rounds):
        seconds[0].append(_seconds(run, 1))
        with patch("ov3d_perception.sparse.kernels.fits", lambda *_: False):
            seconds[1].append(_seconds(run, 1))
    return median(seconds[0]), median(seconds[1])


def _seconds(run: Callable[[], object], rounds: int) -> float:
    """Median of so many, after one that does not count."""
    run()
    spent = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    return median(spent)


if __name__ == "__main__":
    main()
