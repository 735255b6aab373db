"""Files that are whole or not there: written beside their place, and put into it only when they are on the disk."""

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

from ov3d_perception.errors import MapFileError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replacing(path: Path | str) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of ``path`` when the block ends without an error.

    Whenever the machine or the process stops, ``path`` is what it was before or the new file, whole: the content is
    flushed to the disk before the rename, and the folder after it. On an error the temporary file goes and ``path``
    stays as it was; what a killed process left is removed by the next one. Symbolic links are followed. Raises
    MapFileError for whatever the file system refuses.
    """
    target = Path(path).expanduser().resolve()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        with _created(temporary) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, target)
        _flush_folder(target.parent)
    except OSError as error:
        raise _refused(target, error) from error
    finally:
        with contextlib.suppress(OSError):  # it is not there any more, or never was
            temporary.unlink()


def _created(path: Path) -> BinaryIO:
    """Locked as long as it is open, so that nobody takes it for a leftover; readable to whom the umask allows."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "w+b", buffering=1 << 20)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def _remove_leftovers(target: Path) -> None:
    """Temporary files of this target whose writers are no more: a lock ends with its process."""
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


def _refused(target: Path, error: OSError) -> MapFileError:
    remedy = "Choose a folder that exists and may be written to"
    if error.errno in _FULL:
        remedy = "Free some space there, or choose another disk; whatever was there before is untouched"
    return MapFileError(f"{target} could not be written ({error.strerror or error})", remedy)
