"""Memory that a training has freed is used again."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import numpy as np
from ov3d_perception.training.kept_memory import keep_freed_memory
if {keep}:
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [np.full(3 << 20, 1.0, np.uint8) for _ in range(20)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="the C library is not glibc")
def test_freed_blocks_are_not_asked_of_the_system_again() -> None:
    found = [
        int(subprocess.run([sys.executable, "-c", SCRIPT.format(keep=keep)], capture_output=True, check=True).stdout)
        for keep in (False, True)
    ]
    assert found[0] > 1000 and found[1] < 100
