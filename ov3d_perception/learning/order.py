"""What a person asks of ``ov3d learn``, and what one run of it has done so far."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ov3d_perception import stopwatch
from ov3d_perception.errors import LedgerError
from ov3d_perception.files import write_text


@dataclass(frozen=True)
class Order:
    """site: the folder. bags: the new recording first, then older ones. began: checkpoint that a new site begins with,
    "" for the one shipped. options: of the bag data set. recipe: changes, ``section.field=value``. hours: the budget of
    the whole run. disk_gb: of the teacher's features. frames: of a bag that are trained on, at least, and fewer than
    twice as many (``bags.every_of``). replay: most frames that the site keeps. method: ``openscene``, or ``ggsd`` for
    its two phases. labelset: of labels in the bags, for figures alone. trust: learn although the doctor finds errors in
    a bag.
    """

    site: Path
    bags: tuple[Path, ...]
    began: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    recipe: tuple[str, ...] = ()
    hours: float = 8.0
    disk_gb: float = 20.0
    frames: int = 200
    replay: int = 100
    method: str = "openscene"
    labelset: str = ""
    trust: bool = False

    def key(self, running: str) -> str:
        """A name for the run: the same bags, wishes and running network go on with the same run."""
        about = asdict(self) | {"site": "", "bags": [str(bag.resolve()) for bag in self.bags], "hours": 0, "disk_gb": 0}
        return hashlib.sha256(json.dumps([about, running], sort_keys=True, default=str).encode()).hexdigest()[:12]


class Run:
    """One run's folder, and which of its stages are done, with their results, in ``state.yaml``.

    The state is replaced in one step after each stage: after a kill, the run goes on with the stage that was at work.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "state.yaml"
        self._done: dict[str, Any] = (yaml.safe_load(path.read_text()) or {}) if path.is_file() else {}
        self.began = time.monotonic()

    def done(self, stage: str) -> bool:
        """Whether the stage has a result."""
        return stage in self._done

    def result(self, stage: str) -> Any:
        """The stage's result."""
        return self._done[stage]["result"]

    def stage(self, name: str, work: Callable[[], Any]) -> Any:
        """The stage's result: kept, or made now by ``work``, which returns plain data."""
        if not self.done(name):
            start, before = time.monotonic(), stopwatch.spent()
            result = json.loads(json.dumps(work()))
            spent = {part: round(all_ - before.get(part, 0.0), 1) for part, all_ in stopwatch.spent().items()}
            self._done[name] = {"seconds": round(time.monotonic() - start, 1), "spent": spent, "result": result}
            write_text(self.folder / "state.yaml", yaml.safe_dump(self._done, sort_keys=False, allow_unicode=True))
        return self.result(name)

    @property
    def seconds(self) -> dict[str, float]:
        """What each finished stage took."""
        return {name: float(entry["seconds"]) for name, entry in self._done.items()}

    @property
    def spent(self) -> dict[str, dict[str, float]]:
        """What of it went to the network and to the teacher, by stage and part (:mod:`stopwatch`)."""
        return {name: entry.get("spent", {}) for name, entry in self._done.items()}

    def used(self) -> float:
        """Share of the time so far that went to the network and the teacher."""
        return sum(sum(parts.values()) for parts in self.spent.values()) / max(sum(self.seconds.values()), 1e-9)


@contextmanager
def alone(site: Path) -> Iterator[None]:
    """One run a site at a time. Raises LedgerError where another is at work; the lock ends with its process."""
    site.mkdir(parents=True, exist_ok=True)
    handle = os.open(site / ".learn.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LedgerError(f"{site} is being learned by another process", "Wait for it, or end it") from error
        yield
    finally:
        os.close(handle)
