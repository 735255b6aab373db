"""Training and looking on another device than the processor: all tensors are there, and the figures are the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_another_device_makes_the_same_field() -> None:
    """In a process of its own: with another device PyTorch starts threads for gradients, and processes with these must
    not fork, as other tests do."""
    tests = Path(__file__).with_name("on_a_pretended_device.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout + done.stderr
