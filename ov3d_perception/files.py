"""Atomic writing: a file or a folder is written beside its place and renamed into it when it is complete."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ov3d_perception.errors import WriteError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Of an OSError where a disk, a quota or a limit on files is full."""
_LOCK = "lock"  # of a temporary folder: a file in it


@contextmanager
def replacing(path: Path | str, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of ``path`` when the block ends without an error.

    Another process reads the old file or the new one, never a part. If the block raises, ``path`` stays as it was and
    the temporary file is removed. Missing folders are made; symbolic links are followed. Any number of processes may
    write to one path: the last rename counts.

    durable: the same holds if the machine stops: the content is flushed to the disk before the rename, and the folder
    after it. Temporary files that killed processes have left are removed. False is for the many small files of a cache,
    where a flush and a listing of the folder for each file take too long.

    Raises WriteError for every refusal of the file system.
    """
    target, temporary = _places(path)
    try:
        with _refusals_of(target):
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            target.parent.mkdir(parents=True, exist_ok=True)
            if durable:
                _remove_leftovers(target)
            with _created(temporary) as file:
                yield file
                file.flush()
                if durable:
                    os.fsync(file.fileno())
                os.replace(temporary, target)
            if durable:
                _flush(target.parent)
    finally:
        with contextlib.suppress(OSError):  # after the rename it is gone
            temporary.unlink()


def write_text(path: Path | str, text: str) -> None:
    """Write a text in UTF-8 by :func:`replacing`. Raises WriteError."""
    with replacing(path) as file:
        file.write(text.encode())


@contextmanager
def replacing_folder(path: Path | str) -> Iterator[Path]:
    """A place for a folder of the same name, which takes the place of ``path`` when the block ends without an error.

    The block makes it. If it raises, ``path`` stays as it was and what was written is removed; what killed processes
    have left is removed by the next writer. Missing folders above are made; symbolic links are followed. The files are
    flushed to the disk before the rename, the folder after it; between a former folder's going and the new one's coming
    there is none for a moment.

    Raises WriteError where the file system refuses the place or the rename; what the block meets is its own.
    """
    target, temporary = _places(path)
    written = temporary / target.name
    try:
        with _refusals_of(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(target)
            temporary.mkdir()
            lock = _created(temporary / _LOCK)
        with lock:
            yield written
            with _refusals_of(target):
                for file in (*written.rglob("*"), written):
                    _flush(file)
                if target.exists():
                    target.rename(temporary / "former")
                written.rename(target)
                _flush(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def require_other(out: Path, source: Path, what: str) -> None:
    """Raise WriteError where ``out`` is ``source`` itself: what a result was made from must outlive it."""
    if out.exists() and source.exists() and out.samefile(source):
        raise WriteError(f"{out} is {what} itself, and would be written over", "Name another file")


def _places(path: Path | str) -> tuple[Path, Path]:
    """The target, and where it is written."""
    target = Path(path).expanduser().resolve()
    return target, target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")


def _created(path: Path) -> BinaryIO:
    """A new file, locked while it is open: :func:`_remove_leftovers` of other processes leaves locked files alone.

    Between the creation and the lock another process may have removed the file; then it is created again. The umask
    decides who may read it.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        file = os.fdopen(handle, "w+b", buffering=1 << 20)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)  # a process that removes the file holds the lock for a moment only
            if os.fstat(handle).st_nlink:
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _remove_leftovers(target: Path) -> None:
    """Remove the target's temporary files and folders that nobody has locked: their writers have ended, and the locks
    with them.
    """
    for leftover in target.parent.glob(f".{target.name}.*.tmp"):
        folder = leftover.is_dir()
        with contextlib.suppress(OSError), (leftover / _LOCK if folder else leftover).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if folder:
                shutil.rmtree(leftover)
            else:
                leftover.unlink()


def _flush(path: Path) -> None:
    """To the disk: a file's content, or a folder's list of names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _refusals_of(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise refused(target, error) from error


def refused(target: Path | str, error: OSError) -> WriteError:
    """What the file system said against ``target``, with the remedy."""
    remedy = "Choose a folder that exists and may be written to"
    if error.errno in FULL:
        remedy = "Free some space there, or choose another disk; whatever was there before is untouched"
    return WriteError(f"{target} could not be written ({error.strerror or error})", remedy)
