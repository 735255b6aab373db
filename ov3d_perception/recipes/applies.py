"""Which options of a recipe its method reads: an option that would have no effect is an error."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Any

from ov3d_perception.errors import RecipeError

if TYPE_CHECKING:
    from ov3d_perception.recipes.specs import Recipe

_SCENES = frozenset({"name", "sweeps", "seconds", "merged", "grid", "grid_points"})
_CLIP2SCENE = frozenset({"prompts", "semantic", "spatial", "tau", "attention", "form", "switch_after", "switch"})
METHOD_FIELDS = {
    "openscene": frozenset({"name"}),
    "clip2scene": _SCENES | _CLIP2SCENE,
    "kl": _SCENES | {"prompts"},
    "ppkt": _SCENES | {"temperature", "samples"},
    "slidr": _SCENES | {"temperature", "segments", "compactness", "sigma"},
    "labels": frozenset({"name"}),
}
"""The fields of ``method`` that each method reads."""

_OPENSCENE_ONLY = ("pairs.sweeps", "pairs.view_window", "augment.mix", "optimiser.words")
_SCENES_ONLY = ("teacher.online", "augment.image_flip", "augment.image_crop")


def unused_options(recipe: Recipe) -> dict[str, str]:
    """Options that differ from their default and have no effect: ``section.field`` to the reason."""
    name = recipe.method.name
    unread = {f"method.{field.name}" for field in fields(recipe.method)}
    unread -= {f"method.{field}" for field in METHOD_FIELDS[name]}
    unread |= set(_SCENES_ONLY if name == "openscene" else _OPENSCENE_ONLY)
    if name == "labels":
        unread.discard("pairs.sweeps")
    if name not in ("clip2scene", "kl"):
        unread.add("teacher.denoise")
    if name in ("ppkt", "slidr"):
        unread.add("optimiser.balance")
    reasons = dict.fromkeys(sorted(unread), f"method {name!r} does not read it")
    if recipe.optimiser.schedule != "onecycle":
        reasons["optimiser.warmup"] = f"optimiser.schedule {recipe.optimiser.schedule!r} does not read it"
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
