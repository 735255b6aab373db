"""What a training run will cost: ``python benchmarks/training_cost.py config/train/clip2scene_nuscenes.yaml``.

Takes a few steps of the recipe on this machine, frame by frame, and states for a frame: seconds of the loader, the
teacher and the network; multiplications and additions of the teacher (counted by PyTorch) and of the network (pairs of
each convolution's kernel map, forward and both gradients); bytes that the backward pass keeps. From these follow time
and memory of the whole run on 1, 2 and 8 devices: as measured here, and on a GPU of a stated throughput
(``--teacher-tflops``, ``--network-tflops``: assumptions, not measurements). The loader is not to be waited for: the
workers that this takes are stated, too. Any data set in the recipe's format will do, such as
``ov3d simulate FOLDER --nuscenes 0 1000``; a frame of nuScenes has about as many points.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ov3d_perception.language.encoder import load_encoder
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.lifting.sources import open_source, open_vocabulary
from ov3d_perception.paths import cache_dir
from ov3d_perception.recipes.load import load_recipe
from ov3d_perception.sparse import SparseTensor
from ov3d_perception.sparse.modules import Conv3d, ConvTranspose3d
from ov3d_perception.training.data.clouds import collate
from ov3d_perception.training.experiment import Run, experiment_of
from ov3d_perception.training.initialise import network_of
from ov3d_perception.training.methods.clip2scene import Clip2SceneModule

NUSCENES_KEY_FRAMES = 28130 * 600 // 700
"""Of SLidR's 600 training scenes, at the mean of the 700: 24,111."""


@dataclass
class Cost:
    """Of one frame. Seconds by part; operations; bytes kept for the backward pass; voxels of all its clouds."""

    loader: float
    teacher: float
    network: float
    teacher_flop: float
    network_flop: float
    kept: float
    voxels: float


@contextmanager
def counted_convolutions(network: nn.Module) -> Iterator[list[float]]:
    """A list to which each forward pass of a convolution adds its multiplications and additions."""
    found: list[float] = []

    def count(module: nn.Module, arguments: tuple[SparseTensor], output: SparseTensor) -> None:
        x = arguments[0]
        assert isinstance(module, Conv3d | ConvTranspose3d)
        pairs = len(x)
        if not module.pointwise:
            fine, coarse = sorted((x.stride, output.stride))
            pairs = sum(x.manager.kernel_map(fine, coarse, module.kernel_size, module.dilation).sizes)
        found.append(2.0 * pairs * module.in_channels * module.out_channels)

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, Conv3d | ConvTranspose3d)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def teacher_operations(teacher: ImageTeacher, images: Sequence[Tensor]) -> float:
    """Multiplications and additions of encoding the images; PyTorch counts none in its fused attention."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            teacher.encode_now(list(images))
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return float(counter.get_total_flops())


@contextmanager
def kept_for_backward() -> Iterator[dict[int, int]]:
    """Bytes of each storage that autograd keeps."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


def measure(path: Path, overrides: Sequence[str], steps: int, device: str, out: Path) -> tuple[list[Cost], int]:
    """The cost of each of so many frames, after one that is not counted; and the bytes of weights and optimiser."""
    recipe = load_recipe(path, [*overrides, "optimiser.batch=1"])
    encoder = load_encoder(recipe.teacher.model, recipe.teacher.pretrained, device, recipe.teacher.precision)
    teacher = ImageTeacher(encoder, recipe.teacher, cache_dir() / "teacher")
    assert recipe.vocabulary is not None
    vocabulary = open_vocabulary(recipe.vocabulary, teacher.identity)
    network = network_of(recipe, teacher.identity)
    planned = experiment_of(Run(recipe, network, open_source(recipe.train), teacher, vocabulary, out / "pairs"))
    module = planned.module(steps + 1).to(device).train()
    assert isinstance(module, Clip2SceneModule)
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    optimiser = torch.optim.SGD(module.parameters(), lr=1e-4, momentum=0.9)
    costs = []
    for step in range(steps + 1):
        start = time.perf_counter()
        batch = collate([planned.dataset[0, step % len(planned.dataset)]]).to(device)
        loaded = time.perf_counter()
        taught_flop = teacher_operations(teacher, batch.pairs.images if batch.pairs else ())
        module.clock.spent.clear()
        began = time.perf_counter()
        with counted_convolutions(module.network) as flop, kept_for_backward() as kept:
            loss = module.training_step(batch, step)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        module.clock.add("rest", began, module.device)
        taught = module.clock.spent["teacher"]
        costs.append(
            Cost(
                loaded - start,
                taught,
                time.perf_counter() - began - taught,
                taught_flop,
                3 * sum(flop),
                sum(kept.values()),
                len(batch.coords),
            )
        )
    weights = sum(p.numel() * p.element_size() for p in module.parameters())
    return costs[1:], 3 * weights


def projected(cost: Cost, frames: int, devices: int, teacher_tflops: float, network_tflops: float) -> dict[str, float]:
    """Hours of a run over so many frames on so many devices: as measured, and at the assumed throughput."""
    assumed = cost.teacher_flop / (teacher_tflops * 1e12) + cost.network_flop / (network_tflops * 1e12)
    each = math.ceil(frames / devices)
    return {
        "hours, as measured here": round(each * (cost.teacher + cost.network) / 3600, 1),
        "hours, assumed GPU": round(each * assumed / 3600, 1),
        "loader's processes for each GPU": math.ceil(cost.loader / assumed),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, project, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="FIELD=VALUE")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--key-frames", type=int, default=NUSCENES_KEY_FRAMES)
    parser.add_argument("--teacher-tflops", type=float, default=100.0, help="bf16 matrix products, achieved")
    parser.add_argument("--network-tflops", type=float, default=5.0, help="sparse convolution, achieved")
    parser.add_argument("--out", type=Path, default=Path("out/training_cost"))
    options = parser.parse_args(arguments)
    recipe = load_recipe(options.recipe, options.overrides)
    costs, weights = measure(options.recipe, options.overrides, options.steps, options.device, options.out)
    cost = Cost(**{f.name: float(np.median([getattr(c, f.name) for c in costs])) for f in fields(Cost)})
    frames = options.key_frames * recipe.optimiser.epochs
    report = {
        "one frame": {
            "clouds": recipe.method.sweeps,
            "voxels": round(cost.voxels),
            "seconds: loader, teacher, network": [round(s, 3) for s in (cost.loader, cost.teacher, cost.network)],
            "GFLOP: teacher, network with gradients": [round(f / 1e9) for f in (cost.teacher_flop, cost.network_flop)],
            "GB kept for the backward pass": round(cost.kept / 1e9, 2),
        },
        "a device's memory at the recipe's batch [GB]": round((recipe.optimiser.batch * cost.kept + weights) / 1e9, 1),
        "assumed TFLOP/s: teacher, network": [options.teacher_tflops, options.network_tflops],
        "the whole run": {
            f"{n} device{'s' * (n > 1)}": projected(cost, frames, n, options.teacher_tflops, options.network_tflops)
            for n in (1, 2, 8)
        },
        "frames": frames,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "cost.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
