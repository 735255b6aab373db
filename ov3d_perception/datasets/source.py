"""What every data source is: a sequence of frames, with a label set where its points are labelled."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from ov3d_perception.errors import DatasetError
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.types import Frame, Preparation

log = logging.getLogger(__name__)


class FrameSource(Sequence[Frame], ABC):
    """Frames by index, read from disk when asked. Subclasses list every missing or damaged file when they are built.

    labelset: what the ``labels`` of the frames mean; None where the source has none. sequences: names of the drives,
    in the order of the frames. preparation: how the clouds of the frames are made ready, sweeps apart.
    """

    labelset: LabelSet | None = None
    sequences: tuple[str, ...]
    preparation: Preparation = Preparation()

    @cached_property
    def left_out(self) -> Counter[str]:
        """What was left out of the frames so far because it was damaged or missing, and how often."""
        return Counter()

    def leave_out(self, kind: str, detail: object, count: int = 1) -> None:
        """Count a harmless loss, and log the first of its kind."""
        if not self.left_out[kind]:
            log.warning("Left out: %s (%s); further ones are only counted", kind, detail)
        self.left_out[kind] += count

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def frame(self, index: int) -> Frame:
        """The frame at ``index``, 0 <= index < len(self)."""

    def __getitem__(self, index: int) -> Frame:  # type: ignore[override]
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        return self.frame(position)

    def __iter__(self) -> Iterator[Frame]:
        return (self.frame(index) for index in range(len(self)))


def require(root: Path, problems: list[str], remedy: str, kind: type[DatasetError] = DatasetError) -> None:
    """Raises one DatasetError, of that kind, that lists all problems found under ``root``; silent where none are."""
    if problems:
        listed = "".join(f"\n  - {problem}" for problem in problems)
        raise kind(f"{len(problems)} missing or inconsistent files under {root}:{listed}\n", remedy)
