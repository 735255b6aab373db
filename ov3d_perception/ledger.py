"""A site's ledger: which networks a place has learned, which of them is in force, and why each change was made.

A site is a folder::

    site.yaml              this ledger
    networks/0001.safetensors ...   every network that was handed over, never overwritten

``site.yaml`` is written beside its place, flushed to the disk and renamed (:func:`files.replacing`): after a kill, a
full disk or a power cut it is the old ledger or the new one. A network's file is complete on the disk before the ledger
names it, and its SHA-256 is compared before it is used.
"""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from ov3d_perception.errors import LedgerError
from ov3d_perception.files import replacing

FILE = "site.yaml"
NETWORKS = "networks"
ACCEPTED, REJECTED, ASK = "accepted", "rejected", "ask"
"""Verdicts of the gate."""


@dataclass(frozen=True)
class Version:
    """A network of the site.

    number: from 1 up. checkpoint: its file, relative to the site's folder. sha256: of that file. made: when it was
    handed over (UTC, ISO 8601). by: user and machine. bags: what it learned from. verdict: of the gate,
    :data:`ACCEPTED`, :data:`REJECTED` or :data:`ASK`, with its reasons and its figures.
    """

    number: int
    checkpoint: str
    sha256: str
    made: str
    by: str
    bags: tuple[str, ...]
    verdict: str
    reasons: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """At a time (UTC, ISO 8601) network ``to`` took the place of ``before``; 0 is what the site began with."""

    at: str
    before: int
    to: int
    why: str
    rollback: bool = False


@dataclass(frozen=True)
class Ledger:
    """began: checkpoint file that the site began with, "" for the one shipped. in_force: number of a version, or 0."""

    began: str = ""
    in_force: int = 0
    versions: tuple[Version, ...] = ()
    changes: tuple[Change, ...] = ()

    def version(self, number: int) -> Version:
        """The version of a number. Raises LedgerError where there is none."""
        for version in self.versions:
            if version.number == number:
                return version
        known = ", ".join(str(version.number) for version in self.versions) or "none"
        raise LedgerError(f"The site has no network {number}", f"Name one of these: {known}")

    @property
    def previous(self) -> int | None:
        """What a rollback brings back; None where nothing was put in force yet, or all of it was taken back."""
        former: list[int] = []
        for change in self.changes:
            if change.rollback:
                former.pop()
            else:
                former.append(change.before)
        return former[-1] if former else None

    def to_text(self, figures: bool = False) -> str:
        """For people: a line for each network, with its reasons, and one for each change. figures: of the gate, too."""
        began = self.began or "the network shipped"
        lines = [f"{'*' if self.in_force == 0 else ' '} 0 {began}"]
        for version in self.versions:
            bags = ", ".join(version.bags)
            mark = "*" if version.number == self.in_force else " "
            lines.append(f"{mark} {version.number} {version.verdict}, {version.made}, from {bags}, by {version.by}")
            lines += [f"    {reason}" for reason in version.reasons]
            if figures:
                lines += [f"    {name} {value:.4g}" for name, value in version.figures.items()]
        lines += [f"{c.at}: {c.before} -> {c.to}{' (back)' * c.rollback}: {c.why}" for c in self.changes]
        return "\n".join(lines)

    def changed(self, to: int, why: str, rollback: bool = False) -> Ledger:
        """The ledger after ``to`` has taken its place."""
        change = Change(now(), self.in_force, to, why, rollback)
        return replace(self, in_force=to, changes=(*self.changes, change))


class Site:
    """A site's folder. Any number of processes may read and change it at the same time."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).expanduser()

    @classmethod
    def around(cls, checkpoint: Path) -> Site | None:
        """The site that a network's file belongs to; None for a file that is in no site."""
        folder = checkpoint.expanduser().absolute().parent.parent
        return cls(folder) if checkpoint.parent.name == NETWORKS and (folder / FILE).is_file() else None

    @property
    def path(self) -> Path:
        """Of the ledger."""
        return self.folder / FILE

    def read(self) -> Ledger:
        """The ledger. Raises LedgerError where there is none, or where it makes no sense."""
        if not self.path.is_file():
            raise LedgerError(f"{self.folder} is no site: it has no {FILE}", "Make one: ov3d learn SITE --bag BAG")
        return _parse(self.path)

    def begin(self, checkpoint: str = "") -> Ledger:
        """Make the folder a site, unless it is one. checkpoint: what it begins with; "" is the network shipped."""
        with self._locked():
            if self.path.is_file():
                return _parse(self.path)
            return self._write(Ledger(str(Path(checkpoint).expanduser().absolute()) if checkpoint else ""))

    def checkpoint(self, number: int | None = None) -> Path | None:
        """The file of a version, by default the one in force; None for the network that is shipped.

        Raises LedgerError where the file is missing, or is not the one that was handed over.
        """
        ledger = self.read()
        number = ledger.in_force if number is None else number
        if number == 0:
            return Path(ledger.began) if ledger.began else None
        version = ledger.version(number)
        path = self.folder / version.checkpoint
        if not path.is_file() or file_hash(path) != version.sha256:
            state = "is not the file that was handed over" if path.is_file() else "is gone"
            raise LedgerError(
                f"Network {number} of {self.folder} {state} ({path})",
                f"Bring it back, or go on with the one before: ov3d site rollback {self.folder}",
            )
        return path

    def add(
        self,
        checkpoint: Path,
        bags: Sequence[str],
        verdict: str,
        reasons: Sequence[str] = (),
        figures: Mapping[str, float] | None = None,
    ) -> Version:
        """Hand a network over: its file is copied into the site and written down. It is not in force yet.

        A file that is in the ledger already is not added again; its verdict is renewed.
        Raises WriteError where the disk is full; then the site is as it was.
        """
        content = checkpoint.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        with self._locked():
            ledger = _parse(self.path)
            about: dict[str, Any] = {
                "verdict": verdict,
                "reasons": tuple(reasons),
                "figures": dict(figures or {}),
            }
            known = next((version for version in ledger.versions if version.sha256 == digest), None)
            if known is not None:
                version = replace(known, **about)
                others = [version if one is known else one for one in ledger.versions]
                self._write(replace(ledger, versions=tuple(others)))
                return version
            number = max((*(version.number for version in ledger.versions), *self._numbered_files()), default=0) + 1
            name = f"{NETWORKS}/{number:04d}.safetensors"
            with replacing(self.folder / name) as file:
                file.write(content)
            version = Version(number, name, digest, now(), _who(), tuple(bags), **about)
            self._write(replace(ledger, versions=(*ledger.versions, version)))
            return version

    def put_in_force(self, number: int, why: str) -> Ledger:
        """From now on this network is the site's.

        Raises LedgerError for a number that the ledger does not have, and for a file that is gone or was altered.
        """
        file = self.checkpoint(number)
        if file is not None and not file.is_file():
            raise LedgerError(f"What {self.folder} began with is gone ({file})", "Bring it back, or choose another")
        with self._locked():
            ledger = _parse(self.path)
            return ledger if number == ledger.in_force else self._write(ledger.changed(number, why))

    def roll_back(self, why: str, number: int | None = None) -> Ledger:
        """The network before is in force again. number: only if this one is in force now, else nothing happens.

        Raises LedgerError where there was none before, or no site.
        """
        self.read()
        with self._locked():
            ledger = _parse(self.path)
            if number is not None and number != ledger.in_force:
                return ledger
            if ledger.previous is None:
                raise LedgerError(f"{self.folder} has had one network only", "There is nothing to roll back to")
            return self._write(ledger.changed(ledger.previous, why, rollback=True))

    def _numbered_files(self) -> Iterator[int]:
        """Of all networks that lie in the folder: of a ledger that was lost, too, so that none is written over."""
        return (int(path.stem) for path in (self.folder / NETWORKS).glob("*.safetensors") if path.stem.isdecimal())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """No other process changes the ledger meanwhile; the lock ends with the process, however that ends."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / f".{FILE}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise LedgerError(
                f"{self.folder} cannot be written to ({error.strerror})", "Choose a folder that may be written to"
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _write(self, ledger: Ledger) -> Ledger:
        with replacing(self.path) as file:
            file.write(_HEAD + yaml.safe_dump(_plain(asdict(ledger)), sort_keys=False, allow_unicode=True).encode())
        return ledger


_HEAD = b"# The networks of this site, written by ov3d. `ov3d site show FOLDER` prints it.\n"


def resolve(checkpoint: Path | str, default: Path) -> Path:
    """A checkpoint as people name one: a file, a site's folder (its network in force), or "" for the default.

    Raises LedgerError for a folder that is no site, or whose network in force is missing or altered.
    """
    path = Path(checkpoint).expanduser()
    if not str(checkpoint):
        return default
    return (Site(path).checkpoint() or default) if path.is_dir() else path


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def now() -> str:
    """UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _parse(path: Path) -> Ledger:
    if not path.is_file():
        return Ledger()
    remedy = "Take it from a backup; the networks lie beside it, in " + NETWORKS
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        versions = tuple(_made(Version, entry, bags=tuple, reasons=tuple) for entry in data["versions"])
        changes = tuple(_made(Change, entry) for entry in data["changes"])
        ledger = Ledger(str(data["began"]), int(data["in_force"]), versions, changes)
        _ = ledger.previous  # the changes are in an order that is possible
    except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError, ValueError) as error:
        raise LedgerError(f"{path} makes no sense ({type(error).__name__}: {error})", remedy) from error
    if ledger.in_force:
        ledger.version(ledger.in_force)
    return ledger


def _made(kind: Any, entry: Mapping[str, Any], **convert: Any) -> Any:
    names = {one.name for one in fields(kind)}
    return kind(**{name: convert.get(name, _same)(value) for name, value in entry.items() if name in names})


def _same(value: Any) -> Any:
    return value


def _plain(value: Any) -> Any:
    """As YAML has it: no tuples."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
