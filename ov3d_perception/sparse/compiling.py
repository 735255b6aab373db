"""Functions of this package, compiled; in a process that finds them on disk their programs are not even written down.

A program is decided by the function's name, which says all its variants, and by the source of this package, whose hash
is part of what it is stored under. Writing a live scan's fifteen programs takes 0.2 s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from llvmlite import ir

from ov3d_perception import llvm_code
from ov3d_perception.llvm_code import Code


def compiled(name: str, kinds: Sequence[ir.Type], write: Callable[[Code], None]) -> Callable[..., None]:
    """See :func:`ov3d_perception.llvm_code.compiled`. name: another one for each program."""
    return llvm_code.compiled(name, kinds, write, version())


@cache
def version() -> str | None:
    """The hash of all source that programs are written by; None where it cannot be read."""
    files = [Path(llvm_code.__file__), *sorted(Path(__file__).parent.glob("*.py"))]
    try:
        return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()
    except OSError:
        return None
