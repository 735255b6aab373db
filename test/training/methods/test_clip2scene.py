"""CLIP2Scene's module on the wall of two colours: parts, whole runs, resume, and what its tables compare it with."""

import dataclasses
import json

import pytest
import torch
from colour_scene import ColourEncoder, Walls, assert_resumes, bank, walls_recipe

from ov3d_perception.errors import RecipeError
from ov3d_perception.evaluation.score import STUDENT_ALL, STUDENT_IN_VIEW
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.lifting.frames import prepare_maps
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.methods.clip2scene import semantic_consistency
from ov3d_perception.networks.checkpoint import load_checkpoint
from ov3d_perception.networks.registry import build_network
from ov3d_perception.recipes.load import changed
from ov3d_perception.sparse import SparseTensor
from ov3d_perception.training import run
from ov3d_perception.training.data.clouds import CloudDataset, Columns, collate
from ov3d_perception.training.data.readers import SweepReader
from ov3d_perception.training.methods.clip2scene import Clip2SceneModule

WORDS = Vocabulary.from_words({"red": ["red"], "green": ["green"], "blue": ["blue"]}, bank())


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    return walls_recipe(tmp_path, monkeypatch)


def dataset_of(recipe, tmp_path):
    teacher, walls = ImageTeacher(ColourEncoder(), recipe.teacher, tmp_path / "maps"), Walls("", 2, sweeps=3)
    reader = SweepReader(walls, prepare_maps(walls, teacher, recipe.pairs)[0], teacher.folder, recipe)
    columns = Columns(grid=recipe.method.grid, grid_points=recipe.method.grid_points)
    return CloudDataset(reader, recipe, columns)


def batch_of(recipe, tmp_path):
    dataset = dataset_of(recipe, tmp_path)
    return collate([dataset[0, 0], dataset[0, 1]])


def with_maps(batch, *maps):
    return dataclasses.replace(batch, pairs=dataclasses.replace(batch.pairs, maps=maps))


def module_of(recipe):
    torch.manual_seed(0)
    network = build_network("MinkUNet14A", 2, 3, 0.1)
    module = Clip2SceneModule(network, recipe, 10, WORDS)
    module.log = lambda *_, **__: None
    return module


def test_student_learns_from_words_to_tell_shine(recipe, tmp_path):
    result = run.train(recipe, tmp_path / "out", device="cpu")
    assert result.modes[STUDENT_ALL].miou > 0.9
    assert result.about["training frames"]["used"] == 2
    assert (result.about["training frames"]["unseen"], result.about["training frames"]["corrupt"]) == (1, 1)
    network, info = load_checkpoint(tmp_path / "out" / "student.safetensors")
    assert info.recipe["method"]["name"] == "clip2scene"
    assert not [name for name in network.state_dict() if "spatial" in name]
    times = json.loads((tmp_path / "out" / "times.json").read_text())
    assert len(times) == 6
    assert set(times[0]) == {"epoch", "data", "teacher", "network"}


def test_the_loss_of_a_batch_is_the_mean_of_its_frames(recipe, tmp_path):
    """With equation (1) alone, against the method called by hand on each frame."""
    recipe = changed(recipe, {"method.spatial": 0.0})
    batch, module = batch_of(recipe, tmp_path), module_of(recipe).eval()
    loss = module.training_step(batch, 0)
    narrow = module.network(SparseTensor(batch.feats, batch.coords)).feats[batch.pairs.voxel]
    points = torch.nn.functional.normalize(module.network.head(narrow), dim=1)
    _, word = module._see(batch.pairs)
    each = [
        semantic_consistency(points[mine], word[mine], module.text, module.word_class, 0.5)
        for mine in (batch.pairs.frame == 0, batch.pairs.frame == 1)
    ]
    torch.testing.assert_close(loss, (each[0] + each[1]) / 2)
    assert set(word.tolist()) == {0, 1}
    assert module.spatial_head is None


def test_each_loss_has_a_head_of_its_own(recipe, tmp_path):
    batch = batch_of(recipe, tmp_path)
    for weights, heads in (((1.0, 1.0), (True, True)), ((1.0, 0.0), (True, False)), ((0.0, 1.0), (False, True))):
        module = module_of(changed(recipe, dict(zip(("method.semantic", "method.spatial"), weights, strict=True))))
        module.training_step(batch, 0).backward()
        own, other = module.network.final.kernel.grad, module.spatial_head
        found = own is not None and bool(own.any()), other is not None and bool(other.weight.grad.any())
        assert found == heads
        assert module.network.conv0p1s1.kernel.grad.any()
    trained = {id(p) for group in module.configure_optimizers()["optimizer"].param_groups for p in group["params"]}
    assert id(module.spatial_head.weight) in trained


def test_own_words_take_turns_with_the_pixels(recipe, tmp_path, monkeypatch):
    """FramePairs by its own words alone the loss of equation (1) does not depend on what the pixels say."""
    recipe = changed(recipe, {"method.spatial": 0.0, "method.switch": 1.0, "method.switch_after": 3})
    batch, module = batch_of(recipe, tmp_path), module_of(recipe).eval()
    blind = with_maps(batch, *(one.flip(-1) for one in batch.pairs.maps))
    epoch = [0]
    monkeypatch.setattr(Clip2SceneModule, "current_epoch", property(lambda _: epoch[0]))
    assert module.training_step(batch, 0) != module.training_step(blind, 0)
    epoch[0] = 3
    torch.testing.assert_close(module.training_step(batch, 0), module.training_step(blind, 0))


def test_balanced_words_weigh_by_how_rare_they_are(recipe, tmp_path, monkeypatch):
    """The release's form: of the pairs' losses each is weighed by the inverse share of its word's class so far."""
    settings = {"method.spatial": 0.0, "method.form": "release", "method.balance": 1.0}
    batch, module = batch_of(recipe, tmp_path), module_of(changed(recipe, settings)).eval()
    narrow = module.network(SparseTensor(batch.feats, batch.coords)).feats[batch.pairs.voxel]
    _, word = module._see(batch.pairs)
    total, each = torch.ones(3, dtype=torch.float64), []
    for frame in (0, 1):
        mine = batch.pairs.frame == frame
        total += torch.bincount(word[mine], minlength=3)
        weight = (1 / total)[word[mine]].float()
        loss = torch.nn.functional.cross_entropy(
            module.network.head(narrow[mine]) @ module.text.T, word[mine], reduction="none"
        )
        each.append((loss * weight / weight.mean()).mean())
    torch.testing.assert_close(module.training_step(batch, 0), (each[0] + each[1]) / 2)


def test_denoised_words_are_not_said(recipe, tmp_path):
    """Half of the image is red; the other half is green rather than blue, but nowhere surely (0.38 at scale 1)."""
    said = {}
    for threshold in (0.0, 0.5):
        planned = changed(recipe, {"method.denoise": threshold})
        batch, module = batch_of(planned, tmp_path), module_of(planned)
        module.logit_scale = 1.0
        one = torch.zeros_like(batch.pairs.maps[0])
        one[0, :, : one.shape[2] // 2] = 1.0
        one[:, :, one.shape[2] // 2 :] = torch.tensor([0.1, 0.75, 0.65])[:, None, None]
        said[threshold] = set(module._see(with_maps(batch, one, one).pairs)[1].tolist())
    assert said == {0.0: {0, 1}, 0.5: {0}}


@pytest.mark.parametrize("form", ["release", "soft"])
def test_other_forms_of_equation_1_learn_too(recipe, tmp_path, form):
    result = run.train(changed(recipe, {"method.form": form}), tmp_path / "out", device="cpu")
    assert result.modes[STUDENT_ALL].miou > 0.9
    assert load_checkpoint(tmp_path / "out" / "student.safetensors")[1].recipe["method"]["form"] == form


def test_soft_words_are_the_pixels_own_softmax_and_own_words_are_hard(recipe, tmp_path, monkeypatch):
    settings = {"method.spatial": 0.0, "method.form": "soft", "method.switch": 1.0, "method.switch_after": 3}
    batch, module = batch_of(recipe, tmp_path), module_of(changed(recipe, settings))
    module.eval().options = dataclasses.replace(module.options, logit_scale=5.0)
    epoch = [0]
    monkeypatch.setattr(Clip2SceneModule, "current_epoch", property(lambda _: epoch[0]))
    narrow = module.network(SparseTensor(batch.feats, batch.coords)).feats[batch.pairs.voxel]
    said = 5.0 * torch.nn.functional.normalize(module.network.head(narrow), dim=1) @ module.text.T
    pixels, _ = module._see(batch.pairs)

    def means(each):
        return torch.stack([each[batch.pairs.frame == frame].mean() for frame in (0, 1)]).mean()

    told = (5.0 * pixels @ module.text.T).softmax(1)
    expected = (told * (told.log() - said.log_softmax(1))).sum(1)
    torch.testing.assert_close(module.training_step(batch, 0), means(expected))
    epoch[0] = 3
    expected = torch.nn.functional.cross_entropy(said, said.argmax(1), reduction="none")
    torch.testing.assert_close(module.training_step(batch, 0), means(expected))


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("method", ["kl", "ppkt", "slidr", "clip2scene"])
def test_methods_of_the_tables_run(recipe, tmp_path, method, online):
    if method == "slidr":
        pytest.importorskip("skimage")
    augment = {"augment.image_flip": True, "augment.image_crop": 0.8} if online else {}
    settings = {"method.name": method, "teacher.online": online, "optimiser.algorithm": "sgd", **augment}
    result = run.train(changed(recipe, {**settings, "optimiser.schedule": "cosine"}), tmp_path / "out", fast=True)
    assert result.modes[STUDENT_IN_VIEW].points > 100
    assert load_checkpoint(tmp_path / "out" / "student.safetensors")[1].recipe["method"]["name"] == method
    ended = torch.load(tmp_path / "out" / "last.ckpt", weights_only=False)
    momenta = [state["momentum_buffer"] for state in ended["optimizer_states"][0]["state"].values()]
    assert len(momenta) > 50 and all(momentum.isfinite().all() for momentum in momenta)
    assert all(momentum.any() for momentum in momenta), "each parameter has a gradient"


def test_online_runs_tell_which_frames_they_left_out(recipe, tmp_path):
    result = run.train(changed(recipe, {"teacher.online": True, "optimiser.epochs": 1}), tmp_path / "out")
    left_out = result.about["training frames"]["left out"]
    assert [fault.split(":")[0] for fault in sorted(left_out)] == ["frame 0", "frame 3"]


@pytest.mark.parametrize("workers", [0, 2])
def test_what_was_missing_in_frames_is_counted_in_worker_processes_too(recipe, tmp_path, workers):
    """Frame 1 lacks a sweep; it is read for itself, for 0 (corrupt) and for 3 (blind), in two epochs of four turns."""
    recipe = changed(recipe, {"teacher.online": True, "optimiser.epochs": 2, "optimiser.workers": workers})
    recipe.train.options["lossy"] = [1]
    result = run.train(recipe, tmp_path / "out")
    lost = result.about["training frames"]["left out of frames, times"]
    assert lost == {"missing sweep": 24}


def test_accumulated_steps_are_those_of_the_doubled_batch(recipe, tmp_path):
    """Where batch normalisation does not mix frames: frozen statistics, one optimiser step on two frames."""
    grads = []
    for frames in ([[0], [1]], [[0, 1]]):
        dataset = dataset_of(recipe, tmp_path)
        module = module_of(recipe).eval()
        for numbers in frames:
            batch = collate([dataset[0, number] for number in numbers])
            (module.training_step(batch, 0) / len(frames)).backward()
        grads.append([p.grad.clone() for p in module.parameters() if p.grad is not None])
    for one, both in zip(*grads, strict=True):
        torch.testing.assert_close(one, both, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimiser.precision": "bf16"},
        {"optimiser.accumulate": 2, "optimiser.epochs": 12},
        {"optimiser.precision": "fp16"},
    ],
)
def test_students_learn_in_half_precision_and_over_accumulated_batches(recipe, tmp_path, settings):
    if settings.get("optimiser.precision") == "fp16" and not torch.cuda.is_available():
        pytest.skip("16-bit floats with a scaled loss are trained on CUDA only")
    result = run.train(changed(recipe, settings), tmp_path / "out", device="auto")
    assert result.modes[STUDENT_ALL].miou > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("killed", "settings"), [((2, 16), {}), ((10,), {"method.form": "release", "method.balance": 0.5})], ids=str
)
def test_a_killed_run_resumes_to_the_same_weights(recipe, tmp_path, monkeypatch, settings, killed):
    """Four steps an epoch: killed in the first, in the middle, and in the very last step."""
    own = {"optimiser.epochs": 4, "repeat": 2, "method.switch_after": 1, "optimiser.batch": 1}
    kills = [(Clip2SceneModule, step) for step in killed]
    assert_resumes(changed(recipe, own | settings), tmp_path, monkeypatch, *kills)


def test_words_of_another_label_set_can_teach(recipe, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text("name: other\nclasses: {sea: {prompts: [blue]}, leaf: {prompts: [green]}}\n")
    planned = changed(recipe, {"method.prompts": str(other), "optimiser.epochs": 1})
    result = run.train(planned, tmp_path / "out", device="cpu", fast=True)
    assert result.about["prompts"] == {"red": ["red"], "green": ["green"]}


def test_it_needs_words(recipe, tmp_path):
    with pytest.raises(RecipeError, match="vocabulary"):
        run.train(dataclasses.replace(recipe, vocabulary=None, validation=None), tmp_path / "out", device="cpu")
