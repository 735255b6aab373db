"""What is trained on what, by the method that a recipe names."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ov3d_perception.errors import RecipeError
from ov3d_perception.files import replacing
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.lifting.frames import Counts, Prepared, prepare_maps, prepare_samples, restore_maps
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.lifting.sources import open_vocabulary
from ov3d_perception.networks.registry import Network, build_network
from ov3d_perception.recipes.specs import Recipe
from ov3d_perception.training.data.clouds import CloudDataset, Columns
from ov3d_perception.training.data.readers import SampleReader, SweepReader
from ov3d_perception.training.initialise import start_from
from ov3d_perception.training.methods.clip2scene import Clip2SceneModule
from ov3d_perception.training.processes import Processes
from ov3d_perception.training.student import Distillation, Student
from ov3d_perception.types import EncoderIdentity, Frame


@dataclass(frozen=True)
class Experiment:
    """dataset: items by (turn, index); module: for the whole run's steps; counts: what became of the frames."""

    dataset: CloudDataset
    module: Callable[[int], Student]
    counts: dict[str, Any]


def plan(
    recipe: Recipe, out: Path, source: Sequence[Frame], teacher: ImageTeacher, vocabulary: Vocabulary | None
) -> Experiment:
    """The recipe's method, ready to train.

    Raises RecipeError where the method needs words and the recipe has none, and what preparing the pairs raises.
    """
    method = recipe.method
    if method.name == "labels":
        raise RecipeError("The recipe is one of a fine-tuning", "Use `ov3d finetune`, or another method.name")
    if vocabulary is None and (
        method.name != "openscene" or recipe.optimiser.balance > 0 or recipe.optimiser.words > 0
    ):
        raise RecipeError(
            "optimiser.balance, optimiser.words and the methods but openscene need words",
            "Give the recipe a vocabulary",
        )
    network = network_of(recipe, teacher.identity)
    pairs, folder = recipe.pairs, out / "pairs"
    if method.name == "openscene":
        prepared, counts = prepared_frames(
            folder, source, teacher, lambda: prepare_samples(source, teacher, pairs, folder)
        )
        samples = CloudDataset(SampleReader(folder, prepared, teacher.folder), lambda _: recipe, Columns(targets=True))
        return Experiment(samples, lambda n: Distillation(network, recipe.optimiser, n, vocabulary), counts)
    assert vocabulary is not None and recipe.vocabulary is not None
    if method.prompts:
        vocabulary = open_vocabulary(replace(recipe.vocabulary, labelset=method.prompts), teacher.identity)
    found, counts = None, {}
    if not recipe.teacher.online:
        found, counts = prepared_frames(folder, source, teacher, lambda: prepare_maps(source, teacher, pairs))
    scenes = CloudDataset(
        SweepReader(source, found, teacher.folder), lambda _: recipe, Columns(False, method.grid, method.grid_points)
    )
    words = vocabulary
    return Experiment(scenes, lambda n: Clip2SceneModule(network, recipe, n, words, teacher), counts)


def network_of(recipe: Recipe, identity: EncoderIdentity) -> Network:
    """The recipe's network with a head into the space of ``identity``, new or from ``network.init``."""
    spec = recipe.network
    network = build_network(spec.arch, len(spec.inputs), identity.dim, spec.width)
    if spec.init is not None:
        start_from(network, Path(spec.init), spec, identity)
    return network


def prepared_frames(
    folder: Path, source: Sequence[Frame], teacher: ImageTeacher, make: Callable[[], tuple[list[Prepared], Counts]]
) -> tuple[list[Prepared], dict[str, Any]]:
    """The frames that can be trained on, and the counts: made now unless an earlier start of the run has made them.

    The list is ``manifest.json`` in ``folder``. Maps that are gone from the teacher's cache are made anew.
    """
    manifest, processes = folder / "manifest.json", Processes.of_torchrun()
    if processes.rank == 0 and not manifest.exists():
        found, counts = make()
        with replacing(manifest) as file:
            file.write(json.dumps({"frames": [asdict(one) for one in found], "counts": counts.to_dict()}).encode())
    processes.wait_for(manifest)
    about = json.loads(manifest.read_text())
    prepared = [Prepared(one["frame"], tuple(one["maps"])) for one in about["frames"]]
    restore_maps(source, teacher, prepared)  # in every process: each machine may have a cache of its own
    return prepared, about["counts"]
