"""A method of one's own: one file with a spec and an experiment, found by its name in a recipe."""

import pytest
from colour_scene import walls_recipe

from ov3d_perception.errors import RecipeError
from ov3d_perception.evaluation.score import STUDENT_ALL
from ov3d_perception.networks.checkpoint import load_checkpoint
from ov3d_perception.recipes.load import changed
from ov3d_perception.recipes.method_specs import METHODS, load_module
from ov3d_perception.training import experiment, run

OWN = '''
from dataclasses import dataclass

import torch.nn.functional as F

from ov3d_perception.recipes.method_specs import OpenSceneSpec
from ov3d_perception.training.experiment import Experiment, register
from ov3d_perception.training.methods import openscene


@dataclass(frozen=True)
class SquaredSpec(OpenSceneSpec):
    """Squared distance. power: of the distance."""

    name: str = "squared"
    power: float = 2.0


@register(SquaredSpec)
def experiment(run):
    made = openscene.experiment(run)
    return Experiment(made.dataset, lambda steps: SquaredModule(run.network, run.recipe, steps), made.counts)


class SquaredModule(openscene.OpenSceneModule):
    def training_step(self, batch, _):
        narrow = self.network(self.tensor(batch)).feats[batch.targets.voxel]
        distance = F.normalize(self.network.head(narrow).float(), dim=1) - batch.targets.feature
        return self.log_loss(distance.norm(dim=1).pow(self.method.power).mean())

    def tensor(self, batch):
        from ov3d_perception.sparse import SparseTensor

        return SparseTensor(batch.feats, batch.coords)
'''


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    yield walls_recipe(tmp_path, monkeypatch)
    METHODS.pop("squared", None)
    experiment._METHODS.pop("squared", None)


def test_a_method_of_ones_own_trains_and_is_evaluated(recipe, tmp_path):
    with pytest.raises(RecipeError, match=r"recipe\.method name is 'squared'.*--module"):
        changed(recipe, {"method.name": "squared"})
    (tmp_path / "squared.py").write_text(OWN)
    load_module(str(tmp_path / "squared.py"))
    own = changed(recipe, {"method.name": "squared", "method.power": 1.0, "optimiser.batch": 1, "optimiser.epochs": 10})
    with pytest.raises(RecipeError, match=r"recipe\.method\.power"):
        changed(own, {"method.power": "high"})
    result = run.train(own, tmp_path / "out", device="cpu")
    assert result.modes[STUDENT_ALL].miou > 0.9
    assert load_checkpoint(tmp_path / "out" / "student.safetensors")[1].recipe["method"]["power"] == 1.0


def test_a_name_is_taken_once_and_a_missing_file_is_named(recipe, tmp_path):
    (tmp_path / "taken.py").write_text(OWN.replace('"squared"', '"kl"'))
    with pytest.raises(RecipeError, match="'kl' is empty or taken"):
        load_module(str(tmp_path / "taken.py"))
    for name in (str(tmp_path / "nothing.py"), "surely_no_module"):
        with pytest.raises(RecipeError, match="There is no"):
            load_module(name)
