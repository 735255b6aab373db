"""Whole runs on the tiny scene: what they learn, what they leave, and that a broken run goes on to the same end."""

import dataclasses
import json
import resource
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from colour_scene import ColourEncoder, Walls, assert_resumes, walls_recipe

from ov3d_perception.errors import CheckpointError, IdentityError, RecipeError, WriteError
from ov3d_perception.evaluation.checkpoint import evaluate_checkpoint
from ov3d_perception.evaluation.score import STUDENT_ALL, STUDENT_IN_VIEW, TEACHER_IN_VIEW
from ov3d_perception.inference import Segmenter
from ov3d_perception.language.encoder import load_encoder
from ov3d_perception.lifting import image_teacher
from ov3d_perception.lifting.frames import BASIS
from ov3d_perception.networks.checkpoint import load_checkpoint
from ov3d_perception.paths import share_dir
from ov3d_perception.recipes.load import changed
from ov3d_perception.recipes.method_specs import OpenSceneSpec
from ov3d_perception.recipes.specs import NetworkSpec, OptimiserSpec, SourceSpec
from ov3d_perception.sparse.kernels import multiplies_bytes
from ov3d_perception.training import calibrate, clouds, run
from ov3d_perception.training.methods.baselines import KlModule
from ov3d_perception.training.methods.clip2scene import Clip2SceneModule
from ov3d_perception.training.methods.openscene import OpenSceneModule
from ov3d_perception.training.times import StepTimes


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    return dataclasses.replace(
        walls_recipe(tmp_path, monkeypatch),
        train=SourceSpec("walls", "", {"frames": 4, "blind": [3], "corrupt": [0]}),
        optimiser=OptimiserSpec(epochs=10, batch=1, learning_rate=0.01),
        method=OpenSceneSpec(),
        validate_every=5,
    )


@pytest.mark.slow
def test_student_learns_from_colours_to_tell_shine(recipe, tmp_path):
    result = run.train(recipe, tmp_path / "out", device="cpu")
    assert result.modes[STUDENT_IN_VIEW].miou > 0.9
    assert result.modes[STUDENT_ALL].miou > 0.9
    assert result.modes[TEACHER_IN_VIEW].miou > 0.8
    assert result.modes[STUDENT_ALL].points == 1200 > result.modes[STUDENT_IN_VIEW].points

    network, info = load_checkpoint(tmp_path / "out" / "student.safetensors")
    assert info.identity == ColourEncoder.identity
    assert info.recipe["name"] == "walls"
    assert info.vocabulary == {"red": ["red"], "green": ["green"]}
    assert network.out_channels == 3
    assert info.metrics[f"miou: {STUDENT_IN_VIEW}"] == pytest.approx(result.modes[STUDENT_IN_VIEW].miou, abs=1e-4)

    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert written["about"]["prompts"] == {"red": ["red"], "green": ["green"]}
    assert f"| {STUDENT_IN_VIEW} |" in (tmp_path / "out" / "evaluation.md").read_text()
    counts = json.loads((tmp_path / "out" / "pairs" / "manifest.json").read_text())["counts"]
    assert (counts["used"], counts["unseen"], counts["corrupt"]) == (2, 1, 1)
    assert list((tmp_path / "out" / "logs").rglob("metrics.csv"))
    assert list((tmp_path / "out" / "logs").rglob("events.*"))


@pytest.mark.skipif(not multiplies_bytes(), reason="no instructions for products of bytes")
@pytest.mark.parametrize(
    ("least", "says"), [(0.0, "Calibrated for int8 by 2 scans"), (1.01, "Not calibrated for int8")]
)
def test_a_run_ends_calibrated_if_that_keeps_the_labels(recipe, tmp_path, monkeypatch, caplog, least, says):
    monkeypatch.setattr(clouds, "FEWEST", 1)
    monkeypatch.setattr(calibrate, "LEAST_AGREEMENT", least)
    with caplog.at_level("INFO"):
        run.train(changed(recipe, {"optimiser.epochs": 1}), tmp_path / "out", device="cpu")
    info = load_checkpoint(tmp_path / "out" / "student.safetensors")[1]
    assert bool(info.largest_outputs) == (least < 1) and info.metrics
    assert says in caplog.text


def test_without_instructions_for_bytes_nothing_is_tried(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(calibrate, "multiplies_bytes", lambda: False)
    with caplog.at_level("INFO"):
        calibrate.calibrate_if_possible(tmp_path / "none.safetensors", [])
    assert "this processor has no instructions" in caplog.text


@pytest.mark.parametrize("method", ["openscene", "ggsd"])
def test_the_head_is_held_to_directions_that_images_have(recipe, tmp_path, method):
    """Red and green walls span a plane; words reach out of it, and what agrees with them does not."""
    changes = {"method.name": method, "method.agreement": 1.0, "method.held": True, "pairs.basis": 2}
    recipe = changed(
        recipe, {"optimiser.epochs": 2} | changes | ({"method.self_distillation": 0} if method == "ggsd" else {})
    )
    run.train(recipe, tmp_path / "out", device="cpu")
    plane = np.load(tmp_path / "out/pairs" / BASIS)
    assert plane.shape == (2, 3)
    normal = np.linalg.svd(plane)[2][2]
    state = torch.load(tmp_path / "out/last.ckpt", weights_only=False)["state_dict"]
    head = state["network.final.kernel"].numpy()
    assert np.abs(head @ normal).max() < 1e-5 < 0.1 < np.abs(head).max()
    free = changed(recipe, {"method.held": False, "optimiser.epochs": 1})
    run.train(free, tmp_path / "free", device="cpu")
    state = torch.load(tmp_path / "free/last.ckpt", weights_only=False)["state_dict"]
    assert np.abs(state["network.final.kernel"].numpy() @ normal).max() > 0.01


def test_a_killed_run_resumes_to_the_same_weights(recipe, tmp_path, monkeypatch):
    """Four steps an epoch: killed in the third of four."""
    recipe = dataclasses.replace(
        recipe,
        optimiser=dataclasses.replace(recipe.optimiser, epochs=4, ema_decay=0.9),
        method=OpenSceneSpec(balance=0.5, agreement=0.3),
        repeat=2,
    )
    assert_resumes(recipe, tmp_path, monkeypatch, (OpenSceneModule, 10))


@pytest.mark.parametrize("method", ["openscene", "clip2scene"])
def test_a_run_whose_cache_was_emptied_encodes_again_and_resumes_to_the_same_weights(
    recipe, tmp_path, monkeypatch, method
):
    recipe = changed(recipe, {"optimiser.epochs": 3, "repeat": 2, "method.name": method, "train.options.sweeps": 2})

    def empty():
        maps = list((tmp_path / "cache").rglob("*.npy"))
        assert maps
        for path in maps:
            path.unlink()

    module = OpenSceneModule if method == "openscene" else Clip2SceneModule
    assert_resumes(recipe, tmp_path, monkeypatch, (module, 7), between=empty)
    manifest = json.loads((tmp_path / "killed0" / "pairs" / "manifest.json").read_text())
    assert not [name for frame in manifest["frames"] for name in frame["maps"] if "/" in name]


def test_images_are_hashed_when_a_run_begins_and_never_again(recipe, tmp_path, monkeypatch):
    """Frames 1 and 2 are used, and 4 turns of 2 epochs read them; the evaluation hashes its own two images."""
    hashed, real = [], image_teacher.map_name
    monkeypatch.setattr(image_teacher, "map_name", lambda image: (hashed.append(1), real(image))[1])
    run.train(changed(recipe, {"optimiser.epochs": 2, "method.name": "clip2scene"}), tmp_path / "out", device="cpu")
    assert len(hashed) == 1 + 2 + 2  # the budget's example, two frames, the evaluation


def test_the_average_follows_once_an_optimiser_step(recipe, tmp_path):
    """Two usable frames in four turns, one a batch, two batches a step: four steps of eight batches."""
    settings = {"optimiser.epochs": 1, "optimiser.accumulate": 2, "optimiser.ema_decay": 0.9, "validation": None}
    run.train(changed(recipe, settings), tmp_path / "out", device="cpu")
    state = torch.load(tmp_path / "out" / "last.ckpt", weights_only=False)["state_dict"]
    assert int(state["average.n_averaged"]) == 4


def test_the_shipped_encoder_teaches_a_student(recipe, tmp_path, monkeypatch):
    """From images through the real encoder, its windows and its cache to a network whose features are its own."""
    monkeypatch.setattr(run, "load_encoder", load_encoder)
    models = share_dir() / "models"
    settings = {
        "teacher": {"model": str(models / "street_clip")},
        "vocabulary": {"labelset": "street", "text": str(models / "street_bank.npz")},
        "validation": None,
        "optimiser.epochs": 6,
        "method.agreement": 0.1,
    }
    run.train(changed(recipe, settings), tmp_path / "out", device="cpu")
    encoder = load_encoder(str(models / "street_clip"), None, "cpu")
    network, info = load_checkpoint(tmp_path / "out" / "student.safetensors")
    assert info.identity == encoder.identity
    frame = Walls("", 4, blind=(3,), corrupt=(0,))[1]
    (dense,) = encoder.dense([frame.views[0].image])
    found = Segmenter(network, info).features(frame.sweeps[0].scan.xyz, frame.sweeps[0].scan.intensity)
    said = network.head(torch.from_numpy(found.features)).detach()[found.point_to_voxel]
    left, right = (dense[:, :, part].mean((1, 2)) for part in (slice(0, 2), slice(-2, None)))
    contrast = torch.nn.functional.normalize(said, dim=1) @ torch.nn.functional.normalize(left - right, dim=0)
    labels = torch.from_numpy(frame.labels)
    assert contrast[labels == 0].mean() - contrast[labels == 1].mean() > 0.3 * float((left - right).norm())


PHASES = [
    {"optimiser.epochs": 3},
    {"method.name": "kl", "optimiser.epochs": 2, "optimiser.learning_rate": 0.001, "optimiser.ema_decay": 0.5},
]


def test_phases_go_on_with_the_weights_of_those_before(recipe, tmp_path, monkeypatch):
    """Each has its own loss and schedule; the second begins where the first ended; the last one's average is kept."""
    began, real = [], KlModule.training_step

    def step(self, batch, number):
        began.append({name: value.detach().clone() for name, value in self.network.named_parameters()})
        return real(self, batch, number)

    monkeypatch.setattr(KlModule, "training_step", step)
    run.train(changed(recipe, {"phases": PHASES}), tmp_path / "out", device="cpu")
    first, second = (
        torch.load(tmp_path / "out" / f"phase{number}" / "last.ckpt", weights_only=False) for number in (1, 2)
    )
    assert (first["epoch"] + 1, second["epoch"] + 1) == (3, 2)
    assert first["optimizer_states"][0]["param_groups"][0]["max_lr"] == 0.01
    assert second["optimizer_states"][0]["param_groups"][0]["max_lr"] == 0.001
    for name, value in began[0].items():
        torch.testing.assert_close(value, first["state_dict"][f"network.{name}"], rtol=0, atol=0)
    kept = load_checkpoint(tmp_path / "out" / "student.safetensors")[0].state_dict()["final.kernel"]
    torch.testing.assert_close(kept, second["state_dict"]["average.module.final.kernel"].half().float())


@pytest.mark.slow
def test_a_run_killed_in_any_phase_resumes_to_the_same_weights(recipe, tmp_path, monkeypatch):
    """Four steps an epoch: killed in the second epoch of three, and in the first of the second phase."""
    planned = changed(recipe, {"phases": PHASES, "repeat": 2})
    assert_resumes(planned, tmp_path, monkeypatch, (OpenSceneModule, 6), (KlModule, 3))


def test_the_start_is_kept_in_part(recipe, tmp_path):
    """Of the weights of the first run the second ends with all, or half."""
    short = changed(recipe, {"optimiser.epochs": 1})
    run.train(short, tmp_path / "first", device="cpu")
    first = str(tmp_path / "first" / "student.safetensors")
    ends = []
    for keep in (0.0, 0.5, 1.0):
        run.train(changed(short, {"network.init": first, "network.keep": keep}), tmp_path / f"{keep}", device="cpu")
        ends.append(load_checkpoint(tmp_path / f"{keep}" / "student.safetensors")[0].state_dict())
    start, (learned, half, kept) = load_checkpoint(first)[0].state_dict(), ends
    for name in ("final.kernel", "conv0p1s1.kernel", "bn0.bn.running_var"):
        assert not torch.equal(learned[name], start[name])
        torch.testing.assert_close(kept[name], start[name], rtol=0, atol=0)
        torch.testing.assert_close(half[name], (learned[name] + start[name]) / 2, rtol=2e-3, atol=1e-4)


def test_a_folder_belongs_to_one_run(recipe, tmp_path):
    recipe = dataclasses.replace(recipe, optimiser=dataclasses.replace(recipe.optimiser, epochs=1))
    run.train(recipe, tmp_path / "out", device="cpu")
    with pytest.raises(CheckpointError, match="Resume it"):
        run.train(recipe, tmp_path / "out", device="cpu")
    with pytest.raises(CheckpointError, match="another recipe"):
        run.train(dataclasses.replace(recipe, seed=5), tmp_path / "out", resume=True, device="cpu")


def test_after_a_full_disk_a_run_can_be_resumed(recipe, tmp_path):
    """Its recipe is written at each start, and its times at each epoch's end: neither is left cut off."""
    times = StepTimes(tmp_path)
    trainer = SimpleNamespace(is_global_zero=True, current_epoch=0)
    run.claim(recipe, tmp_path, resume=False)
    (tmp_path / "last.ckpt").touch()
    times.steps = [{"data": 0.1, "network": 0.2}]
    times.on_train_epoch_end(trainer, None)
    limits, former = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        for write in (
            lambda: run.claim(recipe, tmp_path, resume=True),
            lambda: times.on_train_epoch_end(trainer, None),
        ):
            with pytest.raises(WriteError, match="Free some space"):
                write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, former)
    run.claim(recipe, tmp_path, resume=True)
    times.on_train_epoch_end(trainer, None)
    assert len(json.loads((tmp_path / "times.json").read_text())) == 2


def test_words_of_another_encoder_are_refused_before_any_work(recipe, tmp_path, monkeypatch):
    class Other(ColourEncoder):
        identity = dataclasses.replace(ColourEncoder.identity, model="other")

    monkeypatch.setattr(run, "load_encoder", lambda *_: Other())
    with pytest.raises(IdentityError, match="other"):
        run.train(recipe, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out" / "pairs").exists()


def test_without_labels_a_checkpoint_and_the_counts_remain(recipe, tmp_path):
    """A robot's own bag has no labels: no validation source, no words."""
    short = dataclasses.replace(recipe.optimiser, epochs=1)
    bare = dataclasses.replace(recipe, optimiser=short, validation=None, vocabulary=None)
    result = run.train(bare, tmp_path / "out", device="cpu")
    assert result.modes == {}
    assert result.about["training frames"]["used"] == 2
    assert load_checkpoint(tmp_path / "out" / "student.safetensors")[1].vocabulary == {}


def test_options_over_words_need_words(recipe, tmp_path):
    bare = dataclasses.replace(recipe, validation=None, vocabulary=None, method=OpenSceneSpec(agreement=0.1))
    with pytest.raises(RecipeError, match="vocabulary"):
        run.train(bare, tmp_path / "out", device="cpu")


def test_a_processor_without_vectors_of_halves_trains_in_float32(monkeypatch, caplog):
    monkeypatch.setattr(run, "halves_in_vectors", lambda device: device != "cpu")
    assert run.precision_on("fp32", "cpu") == "fp32"
    assert not caplog.records
    assert run.precision_on("bf16", "cpu") == "fp32"
    assert "float32" in caplog.text
    monkeypatch.setattr(run, "halves_in_vectors", lambda device: True)
    assert run.precision_on("bf16", "cpu") == "bf16"


def test_point_voxel_network_distils_and_segments(recipe, tmp_path):
    """Two steps of SPVCNN, and the checkpoint that they leave in a segmenter."""
    recipe = dataclasses.replace(
        recipe,
        network=NetworkSpec("SPVCNN", width=0.1, voxel_size=0.3, inputs=("ones", "intensity")),
        optimiser=dataclasses.replace(recipe.optimiser, epochs=1, precision="bf16"),
        repeat=1,
    )
    result = run.train(recipe, tmp_path / "out", device="cpu")
    assert result.modes[STUDENT_ALL].points == 1200
    network, info = load_checkpoint(tmp_path / "out" / "student.safetensors")
    assert (info.arch, network.arch, network.feature_dim) == ("SPVCNN", "SPVCNN", 9)
    fresh = info.build().state_dict()
    assert any(not torch.equal(v, fresh[n]) for n, v in network.state_dict().items() if "point_transforms" in n)


def test_a_network_of_merged_sweeps_is_scored_on_merged_sweeps(tmp_path, monkeypatch):
    """The validation source of the recipe does not ask for sweeps; a wall has 600 points."""
    recipe, points, execute = walls_recipe(tmp_path, monkeypatch), [], Segmenter.run

    def counted(segmenter, xyz, *others):
        points.append(len(xyz))
        return execute(segmenter, xyz, *others)

    monkeypatch.setattr(Segmenter, "run", counted)
    short = dataclasses.replace(recipe.optimiser, epochs=1)
    method = dataclasses.replace(recipe.method, merged=True, sweeps=3, switch_after=0)
    run.train(dataclasses.replace(recipe, optimiser=short, method=method), tmp_path / "out", device="cpu")
    assert load_checkpoint(tmp_path / "out" / "student.safetensors")[1].preparation.sweeps == 3
    evaluate_checkpoint(tmp_path / "out" / "student.safetensors", with_teacher=False, device="cpu")
    assert set(points) == {1800} and len(points) >= 4  # more where it is calibrated for int8
