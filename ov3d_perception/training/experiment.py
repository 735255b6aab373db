"""An experiment: a network in training and the clouds that it learns from. Each method makes its own of a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ov3d_perception.errors import RecipeError
from ov3d_perception.files import write_text
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.lifting.frames import Counts, Prepared, restore_maps
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.networks.registry import Network
from ov3d_perception.recipes.method_specs import MethodSpec, register_spec
from ov3d_perception.recipes.specs import Recipe
from ov3d_perception.training.data.clouds import CloudDataset
from ov3d_perception.training.processes import Processes
from ov3d_perception.training.student import Student
from ov3d_perception.types import Frame


@dataclass(frozen=True)
class Run:
    """What a method makes its experiment of.

    recipe: of the run, or of this phase of it. network: to be trained. source: the frames.
    vocabulary: where the recipe has one; always where the method's spec ``needs_words``.
    folder: for what is prepared once, such as samples.
    """

    recipe: Recipe
    network: Network
    source: Sequence[Frame]
    teacher: ImageTeacher
    vocabulary: Vocabulary | None
    folder: Path

    def prepared(self, make: Callable[[], tuple[list[Prepared], Counts]]) -> tuple[list[Prepared], dict[str, Any]]:
        """The frames that can be trained on, and the counts: made now unless an earlier start of the run has made them.

        The list is ``manifest.json`` in the folder. Maps that are gone from the teacher's cache are made anew.
        """
        manifest, processes = self.folder / "manifest.json", Processes.of_torchrun()
        if processes.rank == 0 and not manifest.exists():
            found, counts = make()
            write_text(manifest, json.dumps({"frames": [asdict(one) for one in found], "counts": counts.to_dict()}))
        processes.wait_for(manifest)
        about = json.loads(manifest.read_text())
        prepared = [Prepared(one["frame"], tuple(one["maps"])) for one in about["frames"]]
        restore_maps(self.source, self.teacher, prepared)  # in every process: each machine may have a cache of its own
        return prepared, about["counts"]


@dataclass(frozen=True)
class Experiment:
    """dataset: items by (turn, index); module: for the whole phase's steps; counts: what became of the frames."""

    dataset: CloudDataset
    module: Callable[[int], Student]
    counts: dict[str, Any]


Method = Callable[[Run], Experiment]
_METHODS: dict[str, Method] = {}


def register(spec: type[MethodSpec]) -> Callable[[Method], Method]:
    """Decorator: the function makes the experiment of recipes whose ``method.name`` is the spec's.

    A method of your own is a file with a spec and such a function, named by ``ov3d train --module FILE``.
    """

    def add(method: Method) -> Method:
        _METHODS[register_spec(spec).name] = method
        return method

    return add


def experiment_of(run: Run) -> Experiment:
    """The experiment of the recipe's method.

    Raises:
        RecipeError: the recipe lacks words that the method needs, or its method trains in another way.
        DatasetError: as preparing the frames raises it.
    """
    spec = run.recipe.method
    if spec.needs_words and run.vocabulary is None:
        raise RecipeError(f"The method {spec.name!r} needs words", "Give the recipe a vocabulary")
    if spec.name not in _METHODS:
        raise RecipeError("The recipe is one of a fine-tuning", "Use `ov3d finetune`, or another method.name")
    return _METHODS[spec.name](run)
