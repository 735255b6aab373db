"""Several processes: what each takes, and that two of them are one with the larger batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from colour_scene import walls_recipe
from torch import nn

from ov3d_perception.errors import DatasetError
from ov3d_perception.networks.registry import build_network
from ov3d_perception.recipes.load import changed
from ov3d_perception.sparse import SparseTensor, quantize
from ov3d_perception.training.data.sampler import EpochSampler
from ov3d_perception.training.processes import Processes, SynchronisedNorm, synchronise
from ov3d_perception.training.run import train

SUPPORT = Path(__file__).parents[1] / "support"

RUN = """
import os
import sys
from pathlib import Path
import pytest, torch
sys.path[:0] = {folders!r}
from test_processes import train_two_steps
torch.set_num_threads(1)
with pytest.MonkeyPatch.context() as patch:
    train_two_steps(Path({out!r}), patch, batch=1, rate=0.01)
"""


def train_two_steps(out, patch, batch, rate):
    """Gradient descent on two frames of two sweeps, with the parameters and the running statistics that it ends in."""
    files = out.parent / f"files-{out.name}-{os.environ.get('RANK', '0')}"
    files.mkdir()
    recipe = changed(
        walls_recipe(files, patch),
        {
            "train.options": {"frames": 4, "sweeps": 2},
            "repeat": 1,
            "method.switch_after": 9,
            "optimiser.epochs": 1,
            "optimiser.batch": batch,
            "optimiser.algorithm": "sgd",
            "optimiser.schedule": "cosine",
            "optimiser.clip": 0.0,
            "optimiser.learning_rate": rate,
        },
    )
    train(recipe, out, device="cpu")


def ended_in(out):
    """All parameters in a row, and the running statistics by name."""
    state = torch.load(out / "last.ckpt", weights_only=False)["state_dict"]
    statistics = {name: value for name, value in state.items() if "running" in name}
    return torch.cat([v.flatten() for n, v in state.items() if n not in statistics and "num" not in n]), statistics


def test_processes_share_each_step_as_one_would_take_it():
    one = EpochSampler(8, 1, 5)
    two = [list(EpochSampler(8, 1, 5, rank, 2, 2)) for rank in (0, 1)]
    whole = list(one)
    assert two[0] == whole[0:2] + whole[4:6]
    assert two[1] == whole[2:4] + whole[6:8]
    assert len(EpochSampler(8, 1, 5, 0, 2, 2)) == 4


def test_the_last_step_is_filled_up():
    shares = [list(EpochSampler(5, 1, 0, rank, 2, 2)) for rank in (0, 1)]
    assert [len(share) for share in shares] == [4, 4] == [len(EpochSampler(5, 1, 0, rank, 2, 2)) for rank in (0, 1)]
    assert set(shares[0]) | set(shares[1]) == set(EpochSampler(5, 1, 0))


def test_torchrun_says_who_one_is(monkeypatch, tmp_path):
    assert Processes.of_torchrun() == Processes(0, 1, 1)
    for name, value in (("RANK", "3"), ("WORLD_SIZE", "4"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    assert Processes.of_torchrun() == Processes(3, 4, 2)
    (tmp_path / "there").touch()
    Processes(1, 2, 2).wait_for(tmp_path / "there")
    Processes(0, 2, 2).wait_for(tmp_path / "missing")
    with pytest.raises(DatasetError, match="missing"):
        Processes(1, 2, 2).wait_for(tmp_path / "missing", patience=0.0)


@pytest.mark.parametrize("arch", ["MinkUNet14A", "SPVCNNConcat"])
def test_synchronised_networks_are_the_same_in_one_process(arch):
    torch.manual_seed(0)
    network = build_network(arch, 1, 4, 0.25)
    coords, feats, _ = quantize(torch.randn(60, 3), 0.3, torch.rand(60, 1))
    state = {name: value.clone() for name, value in network.state_dict().items()}
    expected = network(SparseTensor(feats, coords)).feats
    network.load_state_dict(state)
    synchronise(network)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d)]
    assert norms
    assert all(isinstance(norm, SynchronisedNorm) for norm in norms)
    torch.testing.assert_close(network(SparseTensor(feats, coords)).feats, expected)
    assert network.state_dict().keys() == state.keys()


@pytest.mark.slow
def test_two_processes_are_one_with_the_doubled_batch(tmp_path, monkeypatch):
    script = tmp_path / "run.py"
    script.write_text(RUN.format(folders=[str(Path(__file__).parent), str(SUPPORT)], out=str(tmp_path / "two")))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *launcher, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    train_two_steps(tmp_path / "none", monkeypatch, batch=2, rate=0.0)
    train_two_steps(tmp_path / "one", monkeypatch, batch=2, rate=0.01)
    (untrained, _), (one, seen), (two, seen_too) = (ended_in(tmp_path / out) for out in ("none", "one", "two"))
    assert (one - untrained).norm() > 0
    assert (two - one).norm() < 0.02 * (one - untrained).norm()  # rounding, which a young network amplifies
    for name, value in seen.items():
        torch.testing.assert_close(seen_too[name], value, rtol=1e-2, atol=1e-3, msg=name)
    assert json.loads((tmp_path / "two" / "evaluation.json").read_text())["modes"]
