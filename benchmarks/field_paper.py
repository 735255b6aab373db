"""3D-OVS at the paper's size: seconds and memory of a step at each size of the grids, and of the words' steps.

    python benchmarks/field_paper.py SCENE --recipe config/field/paper.yaml --steps 3

The recipe's schedule with the few steps of this run: the grids grow after ``--steps`` steps each, empty cells are found
where the schedule finds them, the words follow on the last grids, first alone, then with the field. So all is as in the
long training but how much of the space is fog, which is more here: times are upper bounds. Features of CLIP are
computed for a third of the training views with an ``overlap`` of 1, and what the recipe's own takes is counted from
that. Seconds are of the process where it is one core's, of the clock on a GPU.

Where all rays of a step need more memory than there is, bound its samples, and take fewer rays for the words:
``--set reconstruction.samples=200000 --set segmentation.rays=256 --set segmentation.patches=1``. What is printed at the
end is then for the recipe's own numbers of rays: grids and their optimiser cost what they cost once a step, all else
grows with the rays. There, what a step must compute and move is counted, too, for rays that meet ``--samples`` samples
of weight, and told in seconds of a GPU that reaches ``--reached`` of its ``--tflops`` and ``--bandwidth`` (an A5000's).
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ov3d_perception.fields.field import RadianceField
from ov3d_perception.fields.language_branch import BranchSettings
from ov3d_perception.fields.recipe import FieldRecipe, load_recipe
from ov3d_perception.fields.reconstruct import Reconstruction
from ov3d_perception.fields.run import Models, open_models
from ov3d_perception.fields.scene import Scene, space_of
from ov3d_perception.fields.segment import Segmentation, SegmentationSettings
from ov3d_perception.fields.sources import load_scene
from ov3d_perception.fields.teachers import Teachers, teach
from ov3d_perception.language.pyramid import patches


class Clock:
    """Seconds of this process on the processor, or of the clock on a GPU, where work is asynchronous."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self) -> float:
        if self.device.type != "cuda":
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def mib(self) -> float:
        """The peak until now."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(steps: Iterator[Any], count: int, clock: Clock) -> list[float]:
    """Seconds of the next ``count`` steps."""
    found = []
    for _ in range(count):
        begun = clock()
        if next(steps, None) is None:
            break
        found.append(clock() - begun)
    return found


def tell(name: str, seconds: list[float], clock: Clock) -> float:
    """Print and return the median."""
    median = float(np.median(seconds))
    print(f"{name}: {median:.2f} s a step ({len(seconds)} steps), {clock.mib():.0f} MiB at the peak so far", flush=True)
    return median


@dataclass(frozen=True)
class Work:
    """Of one step: floating-point operations, bytes to and from memory; bytes that must lie there at once."""

    flops: float
    moved: float
    held: float


def counted(field: RadianceField, rays: int, samples: float, marched: float) -> Work:
    """A step of the reconstruction: of each ray ``marched`` places are asked for their density, ``samples`` are seen.

    Of an interpolation a row of channels is read at six places, and read and written there once more for its gradient.
    """
    settings, parameters = field.settings, sum(p.numel() for p in field.parameters())
    layers = [module for module in field.modules() if isinstance(module, torch.nn.Linear)]
    weights, widths = (
        sum(f(layer) for layer in layers) for f in (lambda x: x.weight.numel(), lambda x: x.out_features)
    )
    places, seen = rays * marched, rays * samples
    density, appearance = sum(settings.density), sum(settings.appearance)
    flops = 3 * 2 * weights * seen + 3 * 13 * (density * places + appearance * seen)
    grids = 4 * 6 * (4 * density * places + 4 * appearance * seen)
    rows = 4 * seen * 4 * (widths + 2 * appearance)  # written and read, values and gradients
    dense_march = 100.0 * places  # points, indices, masks and sums of all places, where there is no compiled loop
    return Work(flops, grids + rows + dense_march + 4 * 12 * parameters, dense_march + rows / 2 + 4 * 4 * parameters)


def tell_counted(field: RadianceField, recipe: FieldRecipe, args: argparse.Namespace) -> None:
    """Print what a step of the recipe's rays is, in the field's largest size."""
    marched = float(field.extent.norm()) / field.step
    work = counted(field, recipe.reconstruction.rays, args.samples, marched)
    seconds = max(work.flops / (args.tflops * 1e12), work.moved / (args.bandwidth * 1e9)) / args.reached
    print(
        f"counted, {recipe.reconstruction.rays} rays with {args.samples:g} samples of weight, at most {marched:.0f} "
        f"marched: {work.flops / 1e9:.0f} GFLOP, {work.moved / 2**30:.1f} GiB moved, {work.held / 2**30:.1f} GiB held"
    )
    print(
        f"{1e3 * seconds:.1f} ms on a GPU of {args.tflops:g} TFLOP/s, {args.bandwidth:g} GB/s at {args.reached:.0%}: "
        f"{seconds * recipe.reconstruction.steps / 3600:.2f} h for {recipe.reconstruction.steps} steps of that size"
    )


def rays_of(run: Reconstruction) -> str:
    """How many rays the next step has, and how many samples of weight each."""
    rows = torch.randperm(len(run._rays))[:128]
    with torch.no_grad():
        looked = run.field.look(run._rays[rows].to(run.device))
    return f"{run.rays_now} rays of {len(looked.weight) / len(rows):.0f} samples"


def reconstruction(scene: Scene, recipe: FieldRecipe, each: int, clock: Clock) -> tuple[Reconstruction, float]:
    """A short reconstruction through all sizes; seconds of the recipe's own."""
    plan = recipe.reconstruction
    bounds = [*plan.grow_at, plan.steps]
    grow = tuple(each * (n + 1) for n in range(len(plan.grow_at)))
    occupy = tuple(each * int(np.searchsorted(plan.grow_at, step, "right")) + each // 2 for step in plan.occupy_at)
    short = replace(plan, steps=each * len(bounds), grow_at=grow, occupy_at=occupy)
    run = Reconstruction(scene, space_of(scene, recipe.images.space), recipe.field, short, recipe.seed, clock.device)
    steps, total, last = run.run(), 0.0, 0
    for bound in bounds:
        seconds, wholes = [], []
        for number in range(each):
            rays, found = run.rays_now, timed(steps, 1, clock)
            once = penalties(run, clock) if number == each - 1 else 0.0
            if number:  # the first step of a size makes it
                seconds += found
                wholes.append((found[0], rays))
        tell(f"reconstruction, {run.field.size} nodes, {rays_of(run)}, {once:.2f} s for the grids", seconds, clock)
        total += float(np.median([once + max(0.0, s - once) * plan.rays / n for s, n in wholes])) * (bound - last)
        last = bound
    return run, total


def penalties(run: Reconstruction, clock: Clock) -> float:
    """Seconds of what a step does for the grids, whatever its rays: penalties and the optimiser's step."""
    begun = clock()
    run.field.density.add_penalty_gradients(1e-9, 1e-9)
    run.field.appearance.add_penalty_gradients(1e-9, 0.0)
    run._optimiser.step()
    return clock() - begun


def words(run: Segmentation, plan: SegmentationSettings, each: int, clock: Clock) -> float:
    """Steps of the words; seconds of ``plan``, whose rays may be more."""
    steps, own = run.run(), run.settings
    more = rays_of_words(plan) / rays_of_words(own)
    alone = tell("words, the field left alone", timed(steps, each, clock), clock)
    joint = tell("words, with the field", timed(steps, each, clock), clock)
    return more * (alone * plan.frozen + joint * (plan.steps - plan.frozen))


def rays_of_words(plan: SegmentationSettings) -> int:
    """Rays of a step."""
    return plan.rays + plan.patches * plan.patch**2


def teachers(scene: Scene, recipe: FieldRecipe, models: Models, folder: Path, clock: Clock) -> tuple[Teachers, float]:
    """The teachers with an overlap of 1; seconds of the recipe's own for these views."""
    quick = replace(recipe.teacher, overlap=1)
    begun = clock()
    found = teach(scene, models.encoder, models.edges, quick, folder, models.edges_name)
    seconds, shape = clock() - begun, scene.views[0].image.shape[:2]

    def count(overlap: int) -> int:
        sides = [min(shape) // divisor for divisor in recipe.teacher.scales]
        return sum(len(patches(shape, side, side // overlap, np.random.default_rng(0))) for side in sides)

    made, wanted = count(1), count(recipe.teacher.overlap)
    print(
        f"teachers: {seconds / len(scene.training):.0f} s a view of {made} patches (the recipe's: {wanted}), "
        f"{found.nbytes / len(scene.training) / 2**20:.0f} MiB a view, {clock.mib():.0f} MiB at the peak so far"
    )
    return found, seconds / made * wanted


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--recipe", default="config/field/paper.yaml")
    parser.add_argument("--set", action="append", default=[], help="section.field=value")
    parser.add_argument("--steps", type=int, default=3, help="at each size")
    parser.add_argument("--share", type=float, default=0.34, help="of the training views")
    parser.add_argument("--samples", type=float, default=40.0, help="of weight, of a ray of a trained field")
    parser.add_argument("--tflops", type=float, default=27.8)
    parser.add_argument("--bandwidth", type=float, default=768.0, help="GB/s")
    parser.add_argument("--reached", type=float, default=0.25)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    torch.set_num_threads(1)
    recipe = load_recipe(args.recipe, args.set)
    models = open_models(recipe, args.device)
    clock = Clock(models.encoder.device)
    scene = load_scene(args.scene).thinned(args.share)
    text = torch.from_numpy(models.text.embed(list(scene.classes)))
    small = scene.downsampled(recipe.images.downsample)
    print(f"{len(scene.training)} views of {scene.views[0].image.shape[:2]}, rays of {small.views[0].image.shape[:2]}")
    run, first = reconstruction(small, recipe, args.steps, clock)
    tell_counted(run.field, recipe, args)
    taught, features = teachers(scene, recipe, models, Path(f"{args.scene}/teacher"), clock)
    branch = BranchSettings(
        models.encoder.identity.dim, len(recipe.teacher.scales), recipe.words.selection, recipe.words.branch_hidden
    )
    plan = replace(recipe.segmentation, steps=2 * args.steps, frozen=args.steps)
    space = space_of(small, recipe.images.space)
    segmentation = Segmentation(small, space, run.field, taught, text, branch, plan, recipe.losses)
    second = words(segmentation, load_recipe(args.recipe, []).segmentation, args.steps, clock)
    hours = [seconds / 3600 for seconds in (first, features, second)]
    print("the whole recipe on this device: {:.1f} h, features of these views {:.1f} h, words {:.1f} h".format(*hours))


if __name__ == "__main__":
    main()
