"""What is trained on what, by the method that a recipe names."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from ov3d_perception.errors import RecipeError
from ov3d_perception.files import replacing
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.lifting.frames import prepare, prepare_maps
from ov3d_perception.lifting.image_teacher import Teacher
from ov3d_perception.lifting.sources import Chosen, open_vocabulary
from ov3d_perception.networks.registry import Network, build_network
from ov3d_perception.recipes.specs import Recipe
from ov3d_perception.training.data.batches import PairDataset, collate
from ov3d_perception.training.data.scenes import SceneDataset, collate_scenes
from ov3d_perception.training.initialise import start_from
from ov3d_perception.training.methods.clip2scene import Contrast
from ov3d_perception.training.processes import Processes
from ov3d_perception.training.student import Distillation, Student
from ov3d_perception.types import EncoderIdentity, Frame


@dataclass(frozen=True)
class Plan:
    """dataset: its ``size`` items, by (turn, index); collate: items to a batch; module: for the whole run's steps;
    counts: what became of the frames.
    """

    dataset: Dataset[Any]
    size: int
    collate: Callable[[Sequence[Any]], Any]
    module: Callable[[int], Student]
    counts: dict[str, Any]


def plan(recipe: Recipe, out: Path, source: Sequence[Frame], teacher: Teacher, vocabulary: Vocabulary | None) -> Plan:
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
    if method.name == "openscene":
        found, counts = _listed(out / "pairs", lambda folder: _pairs(recipe, source, teacher, folder))
        pairs = PairDataset([out / "pairs" / str(name) for name in found], recipe)
        return Plan(
            pairs, len(pairs), collate, lambda n: Distillation(network, recipe.optimiser, n, vocabulary), counts
        )
    assert vocabulary is not None and recipe.vocabulary is not None
    if method.prompts:
        vocabulary = open_vocabulary(replace(recipe.vocabulary, labelset=method.prompts), teacher.identity)
    counts = {}
    if not recipe.teacher.online:
        found, counts = _listed(out / "pairs", lambda _: prepare_maps(source, teacher, recipe.pairs))
        source = Chosen(source, [int(number) for number in found])
    scenes = SceneDataset(source, recipe, None if recipe.teacher.online else teacher.path)
    words = vocabulary
    return Plan(scenes, len(scenes), collate_scenes, lambda n: Contrast(network, recipe, n, words, teacher), counts)


def network_of(recipe: Recipe, identity: EncoderIdentity) -> Network:
    """The recipe's network with a head into the space of ``identity``, new or from ``network.init``."""
    spec = recipe.network
    network = build_network(spec.arch, len(spec.inputs), identity.dim, spec.width)
    if spec.init is not None:
        start_from(network, Path(spec.init), spec, identity)
    return network


def _pairs(recipe: Recipe, source: Sequence[Frame], teacher: Teacher, folder: Path) -> tuple[list[str], dict[str, Any]]:
    paths, counts = prepare(source, teacher, recipe.pairs, folder)
    return [path.name for path in paths], counts.to_dict()


def _listed(
    folder: Path, make: Callable[[Path], tuple[Sequence[str] | Sequence[int], dict[str, Any]]]
) -> tuple[list[str | int], dict[str, Any]]:
    """What can be trained on, and the counts: made now unless an earlier start of the run has finished making it."""
    manifest, processes = folder / "manifest.json", Processes.of_torchrun()
    if not manifest.exists() and processes.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        found, counts = make(folder)
        with replacing(manifest) as file:
            file.write(json.dumps({"samples": list(found), "counts": counts}, indent=2).encode())
    processes.wait_for(manifest)
    about = json.loads(manifest.read_text())
    return about["samples"], about["counts"]
