"""Recipes as they were written before: fields that have moved."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ov3d_perception.recipes.method_specs import METHODS, OpenSceneSpec

log = logging.getLogger(__name__)

MOVED = {
    "optimiser.targets": "pairs.targets",
    "optimiser.context": "augment.context",
    "optimiser.balance": "method.balance",
    "optimiser.words": "method.agreement",
    "optimiser.average": "optimiser.ema_decay",
    "teacher.denoise": "method.denoise",
}


def renamed(data: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's data with each field of :data:`MOVED` where it is now; warns of each. Does not change ``data``."""
    sections, found = _moved(data)
    for former in found:
        log.warning("The recipe's field %s is called %s now", former, MOVED[former])
    return sections


def of_checkpoint(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a recipe that a checkpoint carries, without what its method never read.

    Checkpoints of earlier versions hold the fields of all methods.
    """
    sections, _ = _moved(data)  # no warning: nobody can change it
    method = sections.get("method") or {}
    spec = METHODS.get(method.get("name", OpenSceneSpec.name))
    if spec is not None:
        known = {f.name for f in fields(spec)}
        sections["method"] = {name: value for name, value in method.items() if name in known}
    return sections


def _moved(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The data with the moved fields in their new places, and which former fields it had."""
    sections = {name: dict(part) if isinstance(part, Mapping) else part for name, part in data.items()}
    found = []
    for former, now in MOVED.items():
        (section, name), (target, new) = former.split("."), now.split(".")
        if isinstance(sections.get(section), dict) and name in sections[section]:
            value = sections[section].pop(name)
            if isinstance(place := sections.setdefault(target, {}), dict):
                place.setdefault(new, value)
                found.append(former)
    return sections, found
