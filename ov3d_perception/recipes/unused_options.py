"""An option that would have no effect in its recipe is an error."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import MISSING, Field, fields
from typing import Any

from ov3d_perception.errors import RecipeError
from ov3d_perception.recipes.method_specs import METHODS, OpenSceneSpec
from ov3d_perception.recipes.specs import Recipe


def unused_options(recipe: Recipe) -> dict[str, str]:
    """Options that differ from their default and have no effect: ``section.field`` to the reason."""
    method = recipe.method
    unread = frozenset().union(*(spec.reads for spec in METHODS.values())) - method.reads
    reasons = dict.fromkeys(sorted(unread), f"method {method.name!r} does not read it")
    if recipe.optimiser.schedule != "onecycle":
        reasons["optimiser.warmup"] = f"optimiser.schedule {recipe.optimiser.schedule!r} does not read it"
    if isinstance(method, OpenSceneSpec) and not recipe.pairs.basis:
        reasons["method.held"] = "there are no directions to hold the head to: pairs.basis is 0"
    if recipe.network.init is None:
        reasons["network.keep"] = "there is no network.init to keep weights of"
    if recipe.teacher.passes:
        sizes = ("teacher.size", "teacher.scales", "teacher.key_smoothing")
        reasons |= dict.fromkeys(sizes, "teacher.passes say it otherwise")
    if recipe.teacher.online:
        reasons |= dict.fromkeys(("teacher.scales", "teacher.flip"), "teacher.online: true does not read it")
    else:
        reasons.setdefault("augment.image_flip", "only teacher.online: true reads it")
    return {key: reason for key, reason in reasons.items() if not _is_default(recipe, key)}


def check_options(recipe: Recipe, keys: Collection[str] | None = None) -> None:
    """Raise RecipeError that names each option without effect; of ``keys`` (``section.field``) only, if given."""
    unused = [(key, why) for key, why in unused_options(recipe).items() if keys is None or key in keys]
    if unused:
        faults = "; ".join(f"{key} has no effect: {why}" for key, why in unused)
        raise RecipeError(faults, f"Remove {', '.join(key for key, _ in unused)}, or choose what reads it")


def _is_default(recipe: Recipe, key: str) -> bool:
    section, name = key.split(".")
    spec = getattr(recipe, section)
    return bool(getattr(spec, name) == _default(next(field for field in fields(spec) if field.name == name)))


def _default(field: Field[Any]) -> Any:
    return field.default if field.default is not MISSING else None
