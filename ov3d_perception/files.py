"""Atomic writing: a file is written beside its place and renamed into it when it is complete."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ov3d_perception.errors import WriteError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
    target = Path(path).expanduser().resolve()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
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
            _flush_folder(target.parent)
    except OSError as error:
        raise refused(target, error) from error
    finally:
        with contextlib.suppress(OSError):  # after the rename it is gone
            temporary.unlink()


def require_other(out: Path, source: Path, what: str) -> None:
    """Raise WriteError where ``out`` is ``source`` itself: what a result was made from must outlive it."""
    if out.exists() and source.exists() and out.samefile(source):
        raise WriteError(f"{out} is {what} itself, and would be written over", "Name another file")


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
    """Remove the target's temporary files that nobody has locked: their writers have ended, and the locks with them."""
    for leftover in target.parent.glob(f".{target.name}.*.tmp"):
        with contextlib.suppress(OSError), leftover.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftover.unlink()


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refused(target: Path, error: OSError) -> WriteError:
    """What the file system said against ``target``, with the remedy."""
    remedy = "Choose a folder that exists and may be written to"
    if error.errno in _FULL:
        remedy = "Free some space there, or choose another disk; whatever was there before is untouched"
    return WriteError(f"{target} could not be written ({error.strerror or error})", remedy)
