"""Compiled functions on disk, so that a node that starts again does not compile them again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress

from ov3d_perception.errors import WriteError
from ov3d_perception.files import replacing
from ov3d_perception.paths import cache_dir

_DIGEST = hashlib.sha256().digest_size


def cached(source: str, make: Callable[[], bytes]) -> bytes:
    """The object code of ``source``: from the cache, else made and put there.

    source: everything that decides the code: the program, the compiler's version and options, the processor.

    A file that is damaged or was cut is made again. Where the cache cannot be written, nothing is kept, nothing fails.
    """
    try:
        path = cache_dir() / "code" / hashlib.sha256(source.encode()).hexdigest()
    except OSError:  # no home, or one that cannot be written
        return make()
    with suppress(OSError):
        stored = path.read_bytes()
        if hashlib.sha256(stored[_DIGEST:]).digest() == stored[:_DIGEST]:
            return stored[_DIGEST:]
    code = make()
    with suppress(WriteError), replacing(path, durable=False) as file:
        file.write(hashlib.sha256(code).digest() + code)
    return code
