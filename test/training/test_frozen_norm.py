"""Statistics of the whole training set, estimated once and frozen for the last part of a training."""

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
