#!/usr/bin/env bash
# SciPy 1.17.1 beside torch 2.9.1, in two threads of one process: while one thread imports torch, Rotation.from_quat of a
# plain NumPy array in another thread raises AttributeError ("partially initialized module 'torch' has no attribute
# 'Tensor'"). SciPy asks of the class of an array whether it is torch's, and torch is in sys.modules from the first moment
# of its import on; the answer is kept, so a process that has used SciPy before is safe. A node that imports its
# network's library when it is configured, to start sooner, loses the callback that turns its first pose meanwhile, such
# as that of /tf; with rclpy's executor the node ends by it. So such imports belong before the first callback.
# Seen here: every call fails during the first 0.5 s of the import, none after it.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q scipy==1.17.1 numpy==2.4.6 torch==2.9.1
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
import threading
import time
from importlib import import_module
from importlib.metadata import version

import numpy as np
from scipy.spatial.transform import Rotation

turn, right = np.array([0.0, 0.0, 0.6, 0.8]), np.array([[0.28, -0.96, 0.0], [0.96, 0.28, 0.0], [0.0, 0.0, 1.0]])
done, failures, good = threading.Event(), [], 0
began = time.perf_counter()


def import_torch() -> None:
    import_module("torch")
    done.set()


threading.Thread(target=import_torch).start()
while "torch" not in sys.modules:
    time.sleep(0.001)
while not done.is_set():
    try:
        good += np.allclose(Rotation.from_quat(turn).as_matrix(), right)
    except AttributeError as error:
        failures.append((time.perf_counter() - began, str(error)))
after = np.allclose(Rotation.from_quat(turn).as_matrix(), right)
print("scipy", version("scipy"), "torch", version("torch"), "calls during the import:", good, "right,", len(failures), "failed")
if failures:
    print(f"from {failures[0][0]:.2f} s to {failures[-1][0]:.2f} s: {failures[0][1]}; afterwards right: {after}")
sys.exit(0 if failures and after else "changed: SciPy works while another thread imports torch")
PYTHON
