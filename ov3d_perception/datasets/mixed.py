"""Several sources as one: a network that has seen more places and sensors leans less on what is peculiar to one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from glob import glob
from pathlib import Path
from typing import Any

from ov3d_perception.datasets.registry import open_dataset
from ov3d_perception.datasets.source import FrameSource
from ov3d_perception.errors import DatasetError
from ov3d_perception.types import Frame

_FIELDS = {"dataset", "root", "options", "every", "repeat"}


class Mixed(FrameSource):
    """The frames of all sources, one source after the other.

    root: what a source's relative root starts from. sources: mappings with ``dataset`` and ``root``, and if wanted
    ``options``, ``every`` (take each n-th frame) and ``repeat`` (how often a frame comes in an epoch). A root with
    ``*`` or ``?`` stands for all that it matches, in the order of their names, each a source of its own. Sequences are
    named ``<number>-<dataset>/<sequence>``, so that no frame is taken for another source's neighbour.

    The network asks for clouds prepared as the first source's. Labels are kept where all sources have labels of one
    label set's classes.
    Raises DatasetError for a list that is wrong, and what the sources raise.
    """

    def __init__(self, root: str | Path, sources: Sequence[Mapping[str, Any]] = ()) -> None:
        _check(sources)
        sources = [one for source in sources for one in _matches(Path(root), source)]
        self._sources = [_open(Path(root), source) for source in sources]
        self._names = [f"{number}-{source['dataset']}" for number, source in enumerate(sources)]
        self._index = [
            (number, frame)
            for number, (source, opened) in enumerate(zip(sources, self._sources, strict=True))
            for _ in range(source.get("repeat", 1))
            for frame in range(0, len(opened), source.get("every", 1))
        ]
        sets = [source.labelset for source in self._sources]
        alike = all(one is not None and sets[0] is not None and one.names == sets[0].names for one in sets)
        self.labelset = sets[0] if alike else None
        self.preparation = self._sources[0].preparation
        self.sequences = tuple(
            f"{name}/{sequence}"
            for name, source in zip(self._names, self._sources, strict=True)
            for sequence in source.sequences
        )

    @property
    def left_out(self) -> Counter[str]:
        """What the sources left out so far."""
        return sum((source.left_out for source in self._sources), Counter())

    def __len__(self) -> int:
        return len(self._index)

    def frame(self, index: int) -> Frame:
        number, position = self._index[index]
        frame = self._sources[number].frame(position)
        labels = frame.labels if self.labelset is not None else None
        return replace(frame, name=f"{self._names[number]}/{frame.name}", labels=labels)


def _check(sources: Sequence[Mapping[str, Any]]) -> None:
    remedy = "Write sources: [{dataset: bag, root: site}, {dataset: bag, root: other, every: 5}]"
    if not sources or not all(isinstance(source, Mapping) for source in sources):
        raise DatasetError(f"A mix of {sources!r} has no sources", remedy)
    for source in sources:
        if unknown := sorted(source.keys() - _FIELDS):
            raise DatasetError(f"A source of a mix has no field {unknown}", f"Its fields are {sorted(_FIELDS)}")
        if not {"dataset", "root"} <= source.keys():
            raise DatasetError(f"The source {dict(source)} of a mix lacks its data set or its root", remedy)
        for name in ("every", "repeat"):
            if not isinstance(count := source.get(name, 1), int) or count < 1:
                raise DatasetError(f"{name}: {count!r} of a mix is no number from 1 up", remedy)


def _matches(root: Path, source: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The sources that one entry of the list stands for. Raises DatasetError for a pattern that nothing matches."""
    pattern = str(source["root"])
    if not any(sign in pattern for sign in "*?"):
        return [source]
    found = sorted(glob(pattern, root_dir=root))
    if not found:
        raise DatasetError(
            f"Nothing matches {root / pattern}, a source of a mix", "Correct the pattern, or name the source"
        )
    return [{**source, "root": path} for path in found]


def _open(root: Path, source: Mapping[str, Any]) -> FrameSource:
    return open_dataset(source["dataset"], root / source["root"], **source.get("options", {}))
