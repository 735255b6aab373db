"""The recipe of a site's training: that of the network which runs, on other frames, from its weights on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ov3d_perception.errors import RecipeError
from ov3d_perception.networks.checkpoint_info import CheckpointInfo
from ov3d_perception.paths import shipped
from ov3d_perception.recipes.former import of_checkpoint
from ov3d_perception.recipes.load import changed, phases_of
from ov3d_perception.recipes.parse import from_dict
from ov3d_perception.recipes.specs import Recipe, SourceSpec
from ov3d_perception.recipes.unused_options import check_options

_OPENSCENE = {"method.name": "openscene", "method.agreement": 1.0, "method.balance": 0.5}
_GGSD = {**_OPENSCENE, "method.name": "ggsd"}
_MOMENTS = {"pairs.voxel": 0.3, "pairs.coarse_voxel": 0.6}
"""Where images of other moments teach, too (``pairs.view_window``)."""


def own_recipe(info: CheckpointInfo, checkpoint: Path) -> Recipe:
    """What a checkpoint was trained by. Raises RecipeError where it carries none, or one without words."""
    remedy = "Begin the site with a network of `ov3d train`: --began FILE"
    if not info.recipe:
        raise RecipeError(f"{checkpoint} carries no recipe, so nothing says who its teacher was", remedy)
    recipe = from_dict(of_checkpoint(info.recipe))
    if recipe.vocabulary is None:
        raise RecipeError(f"The recipe of {checkpoint} has no vocabulary, so nothing can be compared", remedy)
    return recipe


def site_recipe(
    own: Recipe,
    running: Path,
    sources: Sequence[Mapping[str, Any]],
    epochs: int,
    method: str = "openscene",
    changes: Sequence[str] = (),
    cache_gb: float = 20.0,
    window: int = 0,
) -> Recipe:
    """A recipe that goes on from the network ``running`` on a mix of sources.

    own: the running network's. method: "openscene", or "ggsd" for GGSD's two phases. changes: ``section.field=value``.
    window: scans before and after whose images teach a scan, too, unless the network's own recipe has a window.
    Raises RecipeError for a change that is wrong.
    """
    values: dict[str, Any] = {
        "name": "site",
        "train": {"dataset": "mixed", "root": "", "options": {"sources": list(sources)}, "every": 1},
        "validation": None,
        "folds": {},
        "phases": [],
        "repeat": 1,
        "validate_every": 1_000_000,
        "network.init": str(running),
        "network.keep": 0.0,  # a wish for one order, not for all after it
        "teacher.cache_gb": cache_gb,
        "optimiser.batch": 1,
        "optimiser.workers": 0,  # a run is one process, and ended as one
        "optimiser.epochs": epochs,
        "optimiser.learning_rate": 0.001,
        "optimiser.schedule": "onecycle",
        "optimiser.frozen_norm": 1.0,  # two kinds of places have no statistics in common
        **(_GGSD if method == "ggsd" else _OPENSCENE),
    }
    if window and own.pairs.view_window == 0:
        values |= {"pairs.view_window": window, **_MOMENTS}
    if method == "ggsd":
        first = max(1, round(0.7 * epochs))
        values["phases"] = [
            {"optimiser.epochs": first, "method.self_distillation": 0},
            {
                "optimiser.epochs": max(1, epochs - first),
                "optimiser.learning_rate": 0.0005,
                "optimiser.ema_decay": 0.99,
            },
        ]
    for change in changes:
        key, separator, value = change.partition("=")
        if not separator:
            raise RecipeError(f"The change {change!r} has no '='", "Write section.field=value")
        values[key] = yaml.safe_load(value)
    recipe = changed(own, values)
    if recipe.vocabulary is not None and not Path(recipe.vocabulary.labelset).is_absolute():
        recipe = changed(recipe, {"vocabulary.text": shipped(recipe.vocabulary.text)})
    for phase in phases_of(recipe):
        check_options(phase)
    return recipe


def streets_of(own: Recipe) -> tuple[SourceSpec, ...]:
    """Simulated streets for the gate of a network that learned from such: worlds that no setting was chosen by.

    Validation worlds 1000 to 1019 are looked at while things are developed; these are not. The first source has images,
    and so tells whether the teacher is right; the others, of many worlds, are cheap scans alone. Each is one look.
    """
    if own.train.dataset != "simulated":
        return ()
    options = {**own.train.options, "frames": 3, "stride": 10}
    pictured = {**options, "seeds": "1020-1027", "frames": 1}
    bare = [{**options, "seeds": seeds, "cameras": False} for seeds in ("1040-1059", "1060-1079", "1080-1099")]
    return tuple(SourceSpec("simulated", "", one) for one in (pictured, *bare))
