"""The weights of the teacher's classes, against hand-computed values."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ov3d_perception.training.balance import Balance


def test_weights_are_inverse_to_what_was_said_so_far():
    """Words 1 and 2 are of one class: totals 1 + 8 and 1 + 2, so the second class weighs three times as much."""
    balance = Balance(np.array([0, 1, 1]), power=1.0)
    weights = balance.weights(torch.tensor([0] * 8 + [1, 2]))
    torch.testing.assert_close(balance.total, torch.tensor([9.0, 3.0], dtype=torch.float64))
    assert weights.mean().item() == pytest.approx(1.0)
    assert (weights[8] / weights[0]).item() == pytest.approx(3.0)
    assert weights[8] == weights[9]


def test_power_zero_weighs_all_alike():
    weights = Balance(np.arange(3), power=0.0).weights(torch.tensor([0, 0, 1]))
    torch.testing.assert_close(weights, torch.ones(3))


RUN = """
import os, sys
import numpy as np, torch
from ov3d_perception.training.balance import Balance
torch.distributed.init_process_group("gloo")
rank = int(os.environ["RANK"])
balance = Balance(np.arange(2), power=1.0)
balance.weights(torch.tensor([[0, 0], [1]][rank]))
np.save(f"{sys.argv[1]}/{rank}.npy", balance.total.numpy())
torch.distributed.destroy_process_group()
"""


def test_processes_count_together(tmp_path: Path):
    """The first says word 0 twice, the second word 1 once."""
    script = tmp_path / "run.py"
    script.write_text(RUN)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launcher, str(script), str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=100
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in (0, 1):
        np.testing.assert_array_equal(np.load(tmp_path / f"{rank}.npy"), [3.0, 2.0])
