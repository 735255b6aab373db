"""Statistics of the whole training set, estimated once and frozen for the last part of a training."""

import pytest
import torch
from colour_scene import assert_resumes, walls_recipe

from ov3d_perception.recipes.load import changed
from ov3d_perception.training import run
from ov3d_perception.training.methods.openscene import OpenSceneModule


def norms(state):
    return {key: value for key, value in state.items() if "running" in key or "tracked" in key}


def test_from_their_step_on_statistics_stay_while_weights_learn(tmp_path, monkeypatch):
    """Four epochs of two usable frames in four turns; frozen from the third on."""
    recipe = changed(walls_recipe(tmp_path, monkeypatch), {"optimiser.epochs": 4, "optimiser.frozen_norm": 0.5})
    recipe = changed(recipe, {"validation": None, "optimiser.batch": 1, "optimiser.ema_decay": 0.0})
    states, save = [], run.CheckpointCallback.on_train_epoch_end

    def keep(self, trainer, module):
        save(self, trainer, module)
        states.append({key: value.clone() for key, value in module.network.state_dict().items()})

    monkeypatch.setattr(run.CheckpointCallback, "on_train_epoch_end", keep)
    run.train(recipe, tmp_path / "out", device="cpu")
    first, second, third, fourth = (norms(state) for state in states)
    assert any(not torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(second[key], third[key]) for key in first)
    assert all(torch.equal(third[key], fourth[key]) for key in first)
    assert any(not torch.equal(states[2][key], states[3][key]) for key in states[2])


def test_a_run_killed_before_or_after_they_are_frozen_resumes_to_the_same_weights(tmp_path, monkeypatch):
    recipe = changed(
        walls_recipe(tmp_path, monkeypatch), {"optimiser.epochs": 4, "optimiser.ema_decay": 0.9, "optimiser.batch": 1}
    )
    recipe = changed(recipe, {"optimiser.frozen_norm": 0.6, "method.name": "openscene"})
    assert_resumes(recipe, tmp_path, monkeypatch, (OpenSceneModule, 10), (OpenSceneModule, 27))


@pytest.mark.parametrize(("share", "moves"), [(0.0, True), (1.0, False)])
def test_a_phase_begins_unfrozen_whatever_the_one_before_has_left(tmp_path, monkeypatch, share, moves):
    """The second phase estimates statistics anew or lets them run; it neither keeps nor loses the first one's."""
    phases = [{"optimiser.frozen_norm": 0.5}, {"optimiser.frozen_norm": share, "optimiser.learning_rate": 1e-6}]
    recipe = changed(walls_recipe(tmp_path, monkeypatch), {"method.name": "openscene", "validation": None})
    recipe = changed(recipe, {"optimiser.epochs": 2, "optimiser.batch": 1, "optimiser.ema_decay": 0.0})
    states, save = [], run.CheckpointCallback.on_train_epoch_end

    def keep(self, trainer, module):
        save(self, trainer, module)
        states.append({key: value.clone() for key, value in module.network.state_dict().items()})

    monkeypatch.setattr(run.CheckpointCallback, "on_train_epoch_end", keep)
    run.train(changed(recipe, {"phases": phases}), tmp_path / "out", device="cpu")
    *_, second, last = (norms(state) for state in states)
    assert any(not torch.equal(second[key], last[key]) for key in last) is moves
    assert all(value.any() for key, value in last.items() if "running_mean" in key)
