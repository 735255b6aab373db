"""Several processes: what each takes, and that two of them are one with the larger batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from ov3d_perception.errors import DatasetError
from ov3d_perception.networks.registry import build_network
from ov3d_perception.sparse import SparseTensor, quantize
from ov3d_perception.training.data.sampler import EpochSampler
from ov3d_perception.training.processes import Processes, SynchronisedNorm, synchronise

SUPPORT = Path(__file__).parents[1] / "support"

RUN = """
import os
import sys
from pathlib import Path
import pytest, torch
sys.path.insert(0, {support!r})
from colour_scene import walls_recipe
from ov3d_perception.training.run import train
from ov3d_perception.recipes.load import changed
torch.set_num_threads(1)
out, batch, rate = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
own = out.parent / ("files-" + os.environ.get("RANK", "0"))
own.mkdir(exist_ok=True)
with pytest.MonkeyPatch.context() as patch:
    recipe = walls_recipe(own, patch)
    options = {{"frames": 4, "sweeps": 2}}
    recipe = changed(recipe, {{"train.options": options, "optimiser.epochs": 1, "repeat": 1, "optimiser.batch": batch,
        "method.switch_after": 9, "optimiser.algorithm": "sgd", "optimiser.schedule": "cosine", "optimiser.clip": 0.0,
        "optimiser.learning_rate": rate}})
    train(recipe, out, device="cpu")
"""


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
def test_two_processes_are_one_with_the_doubled_batch(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(RUN.format(support=str(SUPPORT)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    def start(out, batch, rate, *launcher):
        command = [sys.executable, *launcher, str(script), str(tmp_path / out), str(batch), str(rate)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
        assert done.returncode == 0, done.stderr[-3000:]
        state = torch.load(tmp_path / out / "last.ckpt", weights_only=False)["state_dict"]
        statistics = {name: value for name, value in state.items() if "running" in name}
        return torch.cat([v.flatten() for n, v in state.items() if n not in statistics and "num" not in n]), statistics

    untrained, _ = start("none", 2, 0.0)
    one, seen = start("one", 2, 0.01)
    two, seen_too = start("two", 1, 0.01, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    assert (two - one).norm() < 0.02 * (one - untrained).norm()  # rounding, which a young network amplifies
    for name, value in seen.items():
        torch.testing.assert_close(seen_too[name], value, rtol=1e-2, atol=1e-3, msg=name)
    assert json.loads((tmp_path / "two" / "evaluation.json").read_text())["modes"]
