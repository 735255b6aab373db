"""Recipes from files, and with other values."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from ov3d_perception.errors import RecipeError
from ov3d_perception.paths import shipped
from ov3d_perception.recipes.former import renamed
from ov3d_perception.recipes.method_specs import METHODS
from ov3d_perception.recipes.parse import from_dict
from ov3d_perception.recipes.specs import Recipe, SourceSpec
from ov3d_perception.recipes.unused_options import check_options


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe; ``overrides`` are ``section.field=value`` with the value in YAML.

    ``${NAME}`` in a value is replaced by that environment variable. A relative path that is not there is looked for
    among the shipped files (:func:`~ov3d_perception.paths.shipped`).

    Raises:
        RecipeError: no such file, a field that does not exist, a wrong type, an unset variable, an option that has no
            effect with the recipe's method (see :func:`~ov3d_perception.recipes.unused_options.unused_options`).
    """
    path = Path(shipped(str(path)))
    data = read_plain(path, overrides, "config/train")
    try:
        recipe = from_dict(renamed(data))
        for phase in phases_of(recipe):
            check_options(phase)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error.cause}", error.remedy) from error
    return recipe


def read_plain(path: Path, overrides: Sequence[str], examples: str) -> dict[str, Any]:
    """A recipe's file as plain data, with ``overrides`` set and environment variables put in.

    examples: the folder of recipes that an error names. Raises RecipeError: no such file, not YAML, not sections, an
    override without "=", an unset variable.
    """
    if not path.is_file():
        raise RecipeError(f"There is no recipe {path}", f"Give the path of a YAML file such as {examples}/*.yaml")
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
        if not isinstance(data, dict):
            raise RecipeError(f"The file holds {data!r}, not sections", f"See the recipes in {examples}")
        for override in overrides:
            key, separator, value = override.partition("=")
            if not separator or not key:
                raise RecipeError(f"The override {override!r} has no '='", "Write section.field=value")
            _set(data, key.split("."), yaml.safe_load(value))
        expanded: dict[str, Any] = _expand(data)
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is no text ({error})", "Save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {' '.join(str(error).split())}", "Correct the line it names") from error
    except RecipeError as error:
        raise RecipeError(f"{path}: {error.cause}", error.remedy) from error
    return expanded


def changed(recipe: Recipe, overrides: Mapping[str, Any]) -> Recipe:
    """The recipe with ``section.field`` set to other values.

    Another ``method.name`` keeps the fields that both methods have. Raises RecipeError naming a field that is wrong.
    """
    data = json.loads(json.dumps(recipe.to_dict()))
    if (spec := METHODS.get(overrides.get("method.name", ""))) is not None:
        known = {f.name for f in fields(spec)}
        data["method"] = {name: value for name, value in data["method"].items() if name in known}
    return from_dict(with_values(data, overrides))


def with_values(data: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """``data`` itself, with ``section.field`` set to other values. Raises RecipeError where a section is none."""
    for key, value in overrides.items():
        _set(data, key.split("."), value)
    return data


def phases_of(recipe: Recipe) -> tuple[Recipe, ...]:
    """The recipe of each phase, in order; of a recipe without phases the recipe itself.

    Raises RecipeError naming the phase and a field of it that is wrong.
    """
    alone = changed(recipe, {"phases": []})
    found = []
    for number, change in enumerate(recipe.phases, 1):
        try:
            found.append(changed(alone, change))
        except RecipeError as error:
            raise RecipeError(f"phase {number}: {error.cause}", error.remedy) from error
    return tuple(found) or (alone,)


def folds_of(recipe: Recipe, names: Sequence[str] = ()) -> dict[str, Recipe]:
    """The recipe of each fold by name, of ``names`` only if given; itself, as "", where it has none.

    Raises RecipeError for an unknown fold or a field that is wrong.
    """
    if unknown := set(names) - set(recipe.folds):
        raise RecipeError(f"The recipe has no fold {sorted(unknown)}", f"It has {', '.join(recipe.folds) or 'none'}")
    alone = changed(recipe, {"folds": {}})
    chosen = {name: changed(alone, change) for name, change in recipe.folds.items() if not names or name in names}
    return chosen or {"": alone}


def split_of(recipe: Recipe, name: str) -> SourceSpec:
    """The labelled source of one of the recipe's ``finetune.splits``. Raises RecipeError where there is none."""
    splits = recipe.finetune.splits
    if name not in splits:
        raise RecipeError(f"The recipe has no split {name!r}", f"Its finetune.splits are {', '.join(splits) or 'none'}")
    return splits[name]


def _set(data: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    for number, key in enumerate(keys[:-1], 1):
        data = data.setdefault(key, {})
        if not isinstance(data, dict):
            raise RecipeError(f"{'.'.join(keys[:number])} is {data!r}, no section", "Set it whole, or another field")
    data[keys[-1]] = value


def _expand(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _expand(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item) for item in value]
    if not isinstance(value, str):
        return value
    expanded = os.path.expandvars(value)
    if "${" in expanded:
        raise RecipeError(f"The recipe's value {value!r} names an unset environment variable", "Set it, or override")
    return expanded
