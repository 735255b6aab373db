"""A training step of a radiance field beside TensoRF's own code: time on the processor and memory, at the same state.

    git clone https://github.com/apchenstu/TensoRF /tmp/TensoRF
    python benchmarks/field_step.py --reference /tmp/TensoRF

A field of TensoRF's size (VM-192, 128^3 nodes) is trained for some steps on a simulated scene; both programs then go on
from its grids and networks, with the same rays and empty cells marked by each in its own way. Seconds are of the
process, on one core, so that other load does not count. Memory is the peak above what the process had before its first
step, each in a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ov3d_perception.fields.field import FieldSettings
from ov3d_perception.fields.field_file import FieldFile, load_field, save_field
from ov3d_perception.fields.reconstruct import Reconstruction, ReconstructionSettings
from ov3d_perception.fields.scene import Scene, Space
from ov3d_perception.sim.still_life import BOX, carried_camera, photograph, still_life
from ov3d_perception.types import View


def scene(views: int = 12) -> Scene:
    """A simulated scene of 200 x 150 pixels."""
    life = still_life(0)
    camera, poses = carried_camera(views, (200, 150))
    shots = tuple(View(camera, T, photograph(life, camera, T, n)[0].image) for n, T in enumerate(poses))
    return Scene("still life", shots, tuple(str(n) for n in range(views)), box=BOX)


def settings(rays: int, steps: int, nodes: int, bf16: bool = False) -> ReconstructionSettings:
    """A step as TensoRF's: no bound on the samples, L1 on the density."""
    empty = (steps // 4, steps // 2, steps - 1)
    return ReconstructionSettings(
        steps=10_000, rays=rays, first_cells=nodes**3, last_cells=nodes**3, grow_at=(), occupy_at=empty,
        shrink=False, variation=(0.1, 0.01), l1=(8e-5, 8e-5), bf16=bf16,
    )  # fmt: skip


SHAPE = FieldSettings(shift=-5.0, alpha=6e-3)


def prepare(path: Path, rays: int, steps: int, nodes: int) -> None:
    """Train the field from which both begin."""
    shots, space = scene(), Space(torch.from_numpy(BOX).float())
    run = Reconstruction(shots, space, SHAPE, settings(rays, steps, nodes))
    for _ in run.run(steps):
        pass
    save_field(path, FieldFile(run.field, space))


def ours(path: Path, rays: int, nodes: int, bf16: bool) -> Callable[[], None]:
    """One step of ours."""
    content = load_field(path)
    run = Reconstruction(scene(), content.space, SHAPE, settings(rays, 1, nodes, bf16))
    run.field, run.step = content.field, 2
    run._make_optimiser()
    return lambda: next(iter(run.run(run.step + 1))) and None


def theirs(path: Path, rays: int, nodes: int, reference: Path) -> Callable[[], None]:
    """One step of TensoRF's, as its train.py makes it."""
    sys.path.insert(0, str(reference))
    with contextlib.redirect_stdout(io.StringIO()):
        from models.tensoRF import TensorVMSplit

        content = load_field(path)
        field, space = content.field, content.space
        unit = SHAPE.thickness / float(field.unit)  # its mask does without this factor
        model: Any = TensorVMSplit(
            field.box.clone(), list(field.size), "cpu", density_n_comp=[16] * 3, appearance_n_comp=[48] * 3, app_dim=27,
            near_far=[0.05, 30.0], shadingMode="MLP_Fea", alphaMask_thres=SHAPE.alpha / unit, density_shift=SHAPE.shift,
            distance_scale=unit, pos_pe=2, view_pe=2, fea_pe=2, featureC=128,
            step_ratio=0.5, fea2denseAct="softplus",
        )  # fmt: skip
    with torch.no_grad():
        for theirs_, grid in (
            (("density_plane", "density_line"), field.density),
            (("app_plane", "app_line"), field.appearance),
        ):
            for m in range(3):
                getattr(model, theirs_[0])[m].copy_(grid.planes[m].permute(2, 0, 1)[None])
                getattr(model, theirs_[1])[m].copy_(grid.lines[m].T[None, :, :, None])
        model.basis_mat.weight.copy_(field.basis.weight)
    with contextlib.redirect_stdout(io.StringIO()):
        model.updateAlphaMask(tuple(field.size))
    run = Reconstruction(scene(), space, SHAPE, settings(rays, 1, nodes))
    optimiser = torch.optim.Adam(model.get_optparam_groups(0.02, 1e-3), betas=(0.9, 0.99))

    def variation(planes: Any) -> torch.Tensor:
        total = torch.zeros(())
        for x in planes:
            h, w = (x[:, :, 1:] - x[:, :, :-1]).square(), (x[:, :, :, 1:] - x[:, :, :, :-1]).square()
            total = total + 2e-2 * (h.sum() / h.numel() + w.sum() / w.numel())
        return total

    def step() -> None:
        rows = torch.randint(len(run._rays), (rays,))
        chosen = run._rays[rows]
        both = torch.cat([chosen.origins, chosen.directions], 1)
        colours, _ = model(both, white_bg=False, is_train=True, N_samples=model.nSamples)
        loss = ((colours - run._colours[rows].float() / 255) ** 2).mean()
        loss = (
            loss + 8e-5 * model.density_L1() + 0.1 * variation(model.density_plane) + 0.01 * variation(model.app_plane)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def measure(step: Callable[[], None], repeats: int) -> dict[str, float]:
    """Median seconds of the process, and MiB at the peak above the beginning."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = []
    for _ in range(repeats + 1):
        begun = time.process_time()
        step()
        found.append(time.process_time() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": float(np.median(found[1:])), "MiB": (peak - before) / 1024}


def main() -> None:
    """Parse the command line and print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="a clone of TensoRF; without, ours alone is measured")
    parser.add_argument("--field", type=Path, default=Path("/tmp/field_step.safetensors"))
    parser.add_argument("--rays", type=int, default=4096)
    parser.add_argument("--nodes", type=int, default=128)
    parser.add_argument("--steps", type=int, default=200, help="before both are measured")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3, help="in turn, so that other load meets all alike")
    parser.add_argument("--only", choices=("ours", "ours in bfloat16", "theirs"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.only:
        step = (
            ours(args.field, args.rays, args.nodes, args.only == "ours in bfloat16")
            if args.only != "theirs"
            else theirs(args.field, args.rays, args.nodes, args.reference)
        )
        print(json.dumps(measure(step, args.repeats)))
        return
    if not args.field.is_file():
        prepare(args.field, 512, args.steps, args.nodes)
    names = ("ours", "ours in bfloat16", *(["theirs"] if args.reference else []))
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(args.rounds):
        for name in names:
            command = [sys.executable, __file__, *sys.argv[1:], "--only", name]
            rounds[name].append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    for name, found in rounds.items():
        seconds, mib = (", ".join(f"{one[key]:.{n}f}" for one in found) for key, n in (("seconds", 3), ("MiB", 0)))
        print(f"{name}: {seconds} s a step, {mib} MiB at the peak")
    for name in names[:2] if args.reference else ():
        pairs = list(zip(rounds["theirs"], rounds[name], strict=True))
        faster, less = (np.median([a[key] / b[key] for a, b in pairs]) for key in ("seconds", "MiB"))
        print(f"{name}: {faster:.2f} times as fast, {1 / less:.2f} times the memory (median over {len(pairs)} rounds)")


if __name__ == "__main__":
    main()
