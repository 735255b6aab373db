"""A label set: class names, the words that stand for each, and the raw ids they gather. Data, in YAML."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import numpy as np
import yaml
from jaxtyping import Int32, Integer

from ov3d_perception.errors import DatasetError
from ov3d_perception.types import UNLABELLED

FOLDER = files("ov3d_perception.language") / "classes"


@dataclass(frozen=True)
class LabelSet:
    """names: the classes, whose index is the label. prompts: words per class, each with its own text embedding.

    ids: raw ids of the data set per class; a raw id under no class maps to UNLABELLED.
    """

    name: str
    names: tuple[str, ...]
    prompts: dict[str, list[str]]
    ids: dict[str, list[int]]

    def __post_init__(self) -> None:
        raw = [i for name in self.names for i in self.ids[name]]
        errors = [f"class {name!r} has no prompts" for name in self.names if not self.prompts.get(name)]
        errors += [f"raw id {i} is listed {raw.count(i)} times" for i in sorted(set(raw)) if raw.count(i) > 1]
        errors += [f"raw id {i} is not in 0..65535" for i in raw if not 0 <= i <= 65535]
        errors += ["a class name is listed twice"] if len(set(self.names)) < len(self.names) else []
        if errors:
            raise DatasetError(f"Label set {self.name!r}: {'; '.join(errors)}", "Correct its YAML file")

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _table(self) -> Int32[np.ndarray, " 65536"]:
        table = np.full(65536, UNLABELLED, np.int32)
        for label, name in enumerate(self.names):
            table[self.ids[name]] = label
        return table

    def map(self, raw: Integer[np.ndarray, " n"]) -> Int32[np.ndarray, " n"]:
        """Class index of each raw id (0..65535), UNLABELLED for ids of no class."""
        return self._table[raw]

    @classmethod
    def load(cls, name: str | Path) -> LabelSet:
        """A shipped label set by name, or any YAML file by path. Raises DatasetError where there is none or it is bad.

        The file: ``name:`` and ``classes:``, a mapping of class name to ``prompts`` (list of words) and ``ids`` (list
        of raw ids, may be missing).
        """
        shipped = FOLDER / f"{name}.yaml"
        path = shipped if shipped.is_file() else Path(name)
        if not path.is_file():
            known = sorted(entry.name.removesuffix(".yaml") for entry in FOLDER.iterdir() if entry.name[-5:] == ".yaml")
            raise DatasetError(f"There is no label set {str(name)!r}", f"Use one of {', '.join(known)}, or a YAML file")
        try:
            content = yaml.safe_load(path.read_text())
            classes = content["classes"]
            prompts = {c: [str(word) for word in _list(entry["prompts"])] for c, entry in classes.items()}
            ids = {c: [int(i) for i in entry.get("ids") or []] for c, entry in classes.items()}
        except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise DatasetError(
                f"Label set file {path} cannot be read: {' '.join(str(error).split())} ({type(error).__name__})",
                "It needs `classes:`, each with `prompts:` and `ids:`",
            ) from error
        return cls(str(content.get("name", name)), tuple(classes), prompts, ids)


def _list(words: object) -> list[object]:
    """Raises TypeError for a string, whose letters would be taken for words."""
    if not isinstance(words, list):
        raise TypeError(f"`prompts: {words}` is no list: write `prompts: [{words}]`")
    return words
